//! Stages of a dump and a restore at which somebody else has a word: the scripts of `--action-script`, by the peer's names.
//!
//! A script learns the stage from its environment, and says by its status whether the work may go on. Before the images of a
//! dump are there, and before a restored tree runs, a failure stops the work; a failed `post-dump` leaves the target running
//! with its images; what comes after a tree was let go cannot stop it any more, and is told in the log.

use crate::sys::Pid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of the target was looked at.
    PreDump,
    /// All images are there, and the target stands still, unless it is left running.
    PostDump,
    /// Nothing was made.
    PreRestore,
    /// All of the tree is made, and nothing of it runs.
    PostRestore,
    /// It is about to run.
    PreResume,
    /// It runs.
    PostResume,
}

impl Stage {
    /// Returns its name, as scripts know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDump => "pre-dump",
            Self::PostDump => "post-dump",
            Self::PreRestore => "pre-restore",
            Self::PostRestore => "post-restore",
            Self::PreResume => "pre-resume",
            Self::PostResume => "post-resume",
        }
    }
}

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages {
    /// Commands for a shell, in their order.
    scripts: Vec<String>,
    images_dir: PathBuf,
}

/// A script failed.
#[derive(Debug, thiserror::Error)]
#[error("the action script {script:?} failed at {stage}: {why}")]
pub struct Error {
    script: String,
    stage: &'static str,
    why: String,
}

impl Stages {
    /// Returns those who are told: these scripts, of a dump or restore with this folder.
    pub fn new(scripts: &[String], images_dir: &Path) -> Self {
        Self {
            scripts: scripts.to_vec(),
            images_dir: std::path::absolute(images_dir).unwrap_or_else(|_| images_dir.into()),
        }
    }

    /// Tells that a stage is reached; `root` is the root of the tree, where there is one.
    ///
    /// # Errors
    /// A script fails. The ones after it are not run.
    pub fn reached(&self, stage: Stage, root: Option<Pid>) -> Result<(), Error> {
        self.scripts
            .iter()
            .try_for_each(|script| self.run(script, stage, root))
    }

    /// As [`Stages::reached`], where nothing can be stopped any more.
    pub fn passed(&self, stage: Stage, root: Option<Pid>) {
        if let Err(error) = self.reached(stage, root) {
            tracing::warn!("{error}");
        }
    }

    fn run(&self, script: &str, stage: Stage, root: Option<Pid>) -> Result<(), Error> {
        let failed = |why: String| Error {
            script: script.into(),
            stage: stage.name(),
            why,
        };
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", script])
            .env("CRTOOLS_SCRIPT_ACTION", stage.name())
            .env("CRTOOLS_IMAGE_DIR", &self.images_dir)
            .env_remove("CRTOOLS_INIT_PID")
            .stdin(Stdio::null());
        if let Some(root) = root {
            shell.env("CRTOOLS_INIT_PID", root.0.to_string());
        }
        match shell.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(status.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_learn_the_stage_and_may_refuse() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let script = format!(
            "echo $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR ${{CRTOOLS_INIT_PID-none}} >> {}; [ $CRTOOLS_SCRIPT_ACTION != post-dump ]",
            said.display()
        );
        let stages = Stages::new(&[script], Path::new("/images"));
        stages.reached(Stage::PreRestore, None).expect("it passes");
        let error = stages.reached(Stage::PostDump, Some(Pid(7)));
        let words = error.expect_err("it fails").to_string();
        assert!(words.contains("post-dump"), "{words}");
        let said = std::fs::read_to_string(said).expect("said");
        assert_eq!(said, "pre-restore /images none\npost-dump /images 7\n");
    }
}
