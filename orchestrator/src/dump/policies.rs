//! NUMA policies of memory areas. The process is asked for each area: `numa_maps` would show the thread's policy where an
//! area has none of its own, and walks all pages to say more than that.

use super::Error;
use crate::infect::Infected;
use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions, u32_at};
use crate::snapshot::{MemPolicy, Vma};

/// Areas that are asked for with other questions.
const FIRST: usize = 1024;
/// Areas that are asked for at a time: some 80 bytes each, of the leader's room for a batch.
const AT_ONCE: usize = 4096;
/// Areas whose nodes are asked for at a time.
const NODES_AT_ONCE: usize = 1024;
/// Nodes that a mask has room for, in bits (`MAX_NUMNODES` is at most 1024).
const NODES: u64 = 1024;
/// `MPOL_F_ADDR`: the policy of the area at an address, which is the default one where it has none.
const OF_ADDRESS: u64 = 2;

/// Which areas were asked for, and by which questions.
#[derive(Debug)]
pub struct Policies {
    from: usize,
    asked: Vec<(Asked, Buffer)>,
}

impl Policies {
    /// Asks for the first areas, as many as fit into a batch with other questions.
    pub fn ask_first(questions: &mut Questions, vmas: &[Vma]) -> Self {
        Self::ask(questions, vmas, 0, FIRST)
    }

    fn ask(questions: &mut Questions, vmas: &[Vma], from: usize, count: usize) -> Self {
        let some = vmas.iter().skip(from).take(count);
        let asked = some
            .map(|vma| {
                let mode = questions.space(8);
                (ask(questions, mode, None, vma.start), mode)
            })
            .collect();
        Self { from, asked }
    }

    /// Returns the areas that have a policy of their own.
    fn found(&self, answers: &Answers) -> Vec<usize> {
        let has_policy = |at: &usize| {
            let (asked, mode) = self.asked[*at];
            mode_of(answers, asked, mode) != 0
        };
        let found = (0..self.asked.len()).filter(has_policy);
        found.map(|at| self.from + at).collect()
    }

    /// Adds the policies of areas that have one of their own, given the answers for the first ones. A kernel without NUMA
    /// answers no question.
    ///
    /// # Errors
    /// The parasite does not answer.
    pub fn collect(
        &self,
        answers: &Answers,
        infected: &mut Infected,
        vmas: &mut [Vma],
    ) -> Result<(), Error> {
        let mut with_policy = self.found(answers);
        for from in (self.asked.len()..vmas.len()).step_by(AT_ONCE) {
            let mut questions = Questions::default();
            let more = Self::ask(&mut questions, vmas, from, AT_ONCE);
            with_policy.extend(more.found(&infected.ask(&questions)?));
        }
        for some in with_policy.chunks(NODES_AT_ONCE) {
            collect_nodes(infected, vmas, some)?;
        }
        Ok(())
    }
}

fn collect_nodes(
    infected: &mut Infected,
    vmas: &mut [Vma],
    indices: &[usize],
) -> Result<(), Error> {
    let mut questions = Questions::default();
    let asked: Vec<_> = indices
        .iter()
        .map(|&index| {
            let (mode, nodes) = (questions.space(8), questions.space(NODES as usize / 8));
            let asked = ask(&mut questions, mode, Some(nodes), vmas[index].start);
            (index, asked, mode, nodes)
        })
        .collect();
    let answers = infected.ask(&questions)?;
    for (index, asked, mode, nodes) in asked {
        let mut nodes = answers.buffer(nodes).to_vec();
        nodes.truncate(
            nodes
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1),
        );
        let mode = mode_of(&answers, asked, mode);
        vmas[index].mempolicy = Some(MemPolicy { mode, nodes });
    }
    Ok(())
}

fn ask(questions: &mut Questions, mode: Buffer, nodes: Option<Buffer>, addr: u64) -> Asked {
    let mask = nodes.map_or(Arg::Value(0), Arg::Buffer);
    let bits = Arg::Value(if nodes.is_some() { NODES + 1 } else { 0 });
    let args = [mode.into(), mask, bits, addr.into(), OF_ADDRESS.into()];
    questions.ask(libc::SYS_get_mempolicy as u32, args)
}

/// The mode of an area that cannot be asked for, as that of the vsyscall page, is the default one.
fn mode_of(answers: &Answers, asked: Asked, mode: Buffer) -> u32 {
    answers
        .filled(asked, mode)
        .map_or(0, |bytes| u32_at(bytes, 0))
}
