//! Reading the process tree: `pstree.img`, then what each task and thread has images of.

use std::collections::BTreeSet;

use proto::{kinds, pb};

use super::codec::{read_all, read_optional};
use super::error::{Checked, Error, Result, Wrong, wrong};
use super::limits::{fd, pid};
use super::read::{Reader, real_pid};
use super::refuse::Refusal;
use super::write::FD_CLOEXEC;
use super::xstate::Layout;
use super::{check, compat, files, memory, task, thread};
use crate::snapshot::{FdEntry, FileId, FileKind, Mm, Task, TaskIds, TaskState, Vma};

/// Name of the image of the tree.
const PSTREE: &str = "pstree.img";

impl Reader {
    /// Reads all tasks.
    pub(super) fn read_tree(&mut self) -> Result<()> {
        let Some(records) = read_all::<pb::PstreeEntry>(&self.dir, PSTREE, kinds::PSTREE)? else {
            return Err(Error::Missing {
                file: PSTREE.into(),
            });
        };
        if records.is_empty() {
            return Err(Wrong::new("it names no task").at(PSTREE, "tree"));
        }
        let layout = Layout::of_this_machine();
        let mut known = BTreeSet::new();
        let mut threads = BTreeSet::new();
        for record in &records {
            let at = |wrong: Wrong| wrong.at(PSTREE, format!("task {}", record.pid));
            let mut task = skeleton(record, &known).map_err(at)?;
            known.insert(task.pid);
            self.read_task(&mut task, record, &mut threads, layout)?;
            self.snapshot.tasks.push(task);
        }
        Ok(())
    }

    fn read_task(
        &mut self,
        task: &mut Task,
        tree: &pb::PstreeEntry,
        threads: &mut BTreeSet<u32>,
        layout: &Layout,
    ) -> Result<()> {
        let pid = task.pid;
        let name = format!("core-{pid}.img");
        let mut core: pb::CoreEntry = self.one(&name, kinds::CORE)?;
        compat::complete_leader(&self.dir, pid, &mut core)?;
        let at = |wrong: Wrong| wrong.at(&name, format!("task {pid}"));
        let Some(record) = &core.tc else {
            return Err(at(Wrong::new("what it keeps of a task is missing")));
        };
        task::from_record(record, task).map_err(at)?;
        if task.state == TaskState::Zombie {
            // What a dead task's threads say is whatever lay in the peer's memory.
            return Ok(());
        }
        if let Some(tid) = tree.threads.iter().find(|&&tid| !threads.insert(tid)) {
            return Err(Wrong::new(format!("thread {tid} is there twice"))
                .at(PSTREE, format!("task {pid}")));
        }
        self.read_ids(task, core.ids.as_ref())?;
        self.read_threads(task, tree, core, layout)?;
        let fs = format!("fs-{pid}.img");
        let record = self.one(&fs, kinds::FS)?;
        task.fs = Some(task::fs_from_record(&record).map_err(|wrong| wrong.at(&fs, "fs"))?);
        self.read_fds(task)?;
        task.mm = Some(self.read_mm(task)?);
        Ok(())
    }

    fn read_ids(&mut self, task: &mut Task, in_core: Option<&pb::TaskKobjIdsEntry>) -> Result<()> {
        let name = format!("ids-{}.img", task.pid);
        let record = read_optional(&self.dir, &name, kinds::IDS)?.or(in_core.copied());
        let Some(record) = record else {
            return Err(Error::Missing { file: name });
        };
        task.ids = task::ids_from_record(&record);
        let own = own_namespaces(&task.ids, &self.snapshot.origin.root_ids);
        for namespace in own {
            self.refuse(
                task.pid,
                format!("{namespace} namespace of its own"),
                "namespaces are not restored yet",
            );
        }
        Ok(())
    }

    fn read_threads(
        &mut self,
        task: &mut Task,
        tree: &pb::PstreeEntry,
        leader: pb::CoreEntry,
        layout: &Layout,
    ) -> Result<()> {
        let creds = leader
            .thread_core
            .as_ref()
            .and_then(|core| core.creds.clone());
        let mut leader = Some(leader);
        let others = tree.threads.iter().copied().filter(|&tid| tid != tree.pid);
        for tid in std::iter::once(tree.pid).chain(others) {
            let tid =
                real_pid(tid).map_err(|wrong| wrong.at(PSTREE, format!("task {}", task.pid)))?;
            let name = format!("core-{tid}.img");
            let mut core = match leader.take() {
                Some(core) => core,
                None => self.one(&name, kinds::CORE)?,
            };
            compat::complete_thread(&self.dir, tid, &mut core, creds.as_ref())?;
            let read = thread::from_record(tid, &core, layout);
            let (thread, missing) =
                read.map_err(|wrong| wrong.at(&name, format!("thread {tid}")))?;
            if !missing.is_empty() {
                let object = format!("thread {tid}, xstate components {missing:?}");
                self.refuse(task.pid, object, "this machine does not have them");
            }
            task.threads.push(thread);
        }
        Ok(())
    }

    fn read_fds(&mut self, task: &mut Task) -> Result<()> {
        let id = if self.has_fdinfo_per_id {
            task.ids.files
        } else {
            task.pid as u32
        };
        let name = format!("fdinfo-{id}.img");
        let Some(records) = read_all::<pb::FdinfoEntry>(&self.dir, &name, kinds::FDINFO)? else {
            return Err(Error::Missing { file: name });
        };
        for record in &records {
            let entry = self.fd_entry(record);
            let entry =
                entry.map_err(|wrong| wrong.at(&name, format!("descriptor {}", record.fd)))?;
            task.fds.push(entry);
        }
        task.fds.sort_by_key(|entry| entry.fd);
        match task.fds.windows(2).find(|pair| pair[0].fd == pair[1].fd) {
            Some(pair) => {
                Err(Wrong::new("it is there twice").at(&name, format!("descriptor {}", pair[0].fd)))
            }
            None => Ok(()),
        }
    }

    fn fd_entry(&self, record: &pb::FdinfoEntry) -> Checked<FdEntry> {
        if record.flags & !FD_CLOEXEC != 0 {
            return wrong!("flags {:#x} are not known", record.flags);
        }
        let file = FileId(record.id);
        let Some(open) = check::find(&self.snapshot.files, file) else {
            return wrong!("file {} is not in files.img", record.id);
        };
        if !matches!(open.kind, FileKind::Unsupported(_))
            && files::type_of(&open.kind)? as i32 != record.r#type
        {
            return wrong!("it says that file {} has type {}", record.id, record.r#type);
        }
        Ok(FdEntry {
            fd: fd(record.fd)?,
            cloexec: record.flags & FD_CLOEXEC != 0,
            file,
        })
    }

    fn read_mm(&mut self, task: &Task) -> Result<Mm> {
        let pid = task.pid;
        let name = format!("mm-{pid}.img");
        let mut record: pb::MmEntry = self.one(&name, kinds::MM)?;
        compat::complete_mm(&self.dir, pid, &mut record)?;
        let space = memory::from_record(&record);
        let space = space.map_err(|wrong| wrong.at(&name, format!("task {pid}")))?;
        for (start, what) in space.unsupported {
            self.refuse(
                pid,
                format!("area {start:#x}"),
                &format!("{what} is not restored yet"),
            );
        }
        let mut mm = space.mm;
        self.open_for_mapping(&record.vmas, &task.fds);
        let pagemap = format!("pagemap-{pid}.img");
        let Some(map) = self.read_pagemap(&pagemap)? else {
            return Err(Error::Missing { file: pagemap });
        };
        for run in &map.runs {
            let end = run.start + run.pages * crate::snapshot::PAGE_SIZE;
            if !memory::is_covered(&mm.vmas, run.start, end, Vma::has_pages) {
                let wrong = Wrong::new("it lies outside of the private areas");
                return Err(wrong.at(&pagemap, format!("run {:#x}", run.start)));
            }
        }
        mm.pages = map.runs;
        Ok(mm)
    }

    pub(super) fn refuse(&mut self, task: i32, object: String, reason: &str) {
        self.beyond.push(Refusal {
            task,
            object,
            reason: reason.into(),
        });
    }
}

fn skeleton(record: &pb::PstreeEntry, known: &BTreeSet<i32>) -> Checked<Task> {
    let task = Task {
        pid: real_pid(record.pid)?,
        ppid: pid(record.ppid)?,
        pgid: pid(record.pgid)?,
        sid: pid(record.sid)?,
        ..Task::default()
    };
    if known.contains(&task.pid) {
        return wrong!("it is there twice");
    }
    match (known.is_empty(), task.ppid) {
        (true, 0) => Ok(task),
        (false, parent) if known.contains(&parent) => Ok(task),
        (true, parent) => wrong!("it is the first, and yet has the parent {parent}"),
        (false, parent) => wrong!("its parent {parent} is not before it"),
    }
}

/// Returns the names of the namespaces that a task does not share with the one who dumped it.
fn own_namespaces(ids: &TaskIds, root: &TaskIds) -> Vec<&'static str> {
    let pairs = [
        ("pid", ids.pid_ns, root.pid_ns),
        ("UTS", ids.uts_ns, root.uts_ns),
        ("mount", ids.mnt_ns, root.mnt_ns),
        ("user", ids.user_ns, root.user_ns),
        ("cgroup", ids.cgroup_ns, root.cgroup_ns),
    ];
    let own = pairs
        .into_iter()
        .filter(|(_, id, root)| *id != 0 && *root != 0 && id != root);
    own.map(|(name, ..)| name).collect()
}
