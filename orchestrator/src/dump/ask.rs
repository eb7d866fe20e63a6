//! What only the processes themselves can tell: asked through the parasite.

use super::collect::{Facts, TaskFacts};
use super::policies::Policies;
use super::{Error, keys, process, thread};
use crate::error::{Refusal, Refusals};
use crate::infect::Infected;
use crate::infect::questions::{Answers, Arg, Asked, Questions};
use crate::procfs::{self, smaps::VmFlags};
use crate::snapshot::{Origin, Task, Vma, VmaKind};
use crate::support::Loss;
use crate::sys::Pid;
use crate::sys::clock::{self, Clock};

/// Asks every process and its threads, and returns when and where that was: the clocks are those of the root.
///
/// # Errors
/// A parasite does not answer.
pub fn ask(
    infected: &mut [Infected],
    facts: &mut Facts,
    is_portable: bool,
) -> Result<Origin, Error> {
    let mut origin = Origin {
        wall_clock_ns: clock::now_ns(Clock::Realtime).ok().map(|ns| ns as u64),
        root_ids: process::root_ids(),
        ..Origin::default()
    };
    for (index, (infected, facts_of)) in infected.iter_mut().zip(&mut facts.tasks).enumerate() {
        let clocks_ns = ask_task(infected, facts_of, &mut facts.losses)?;
        ask_for_closing(infected, &mut facts_of.task, &facts.files.unsure)?;
        if index == 0 {
            [origin.monotonic_ns, origin.boottime_ns] = clocks_ns;
        }
    }
    let tasks: Vec<&Task> = facts.tasks.iter().map(|facts| &facts.task).collect();
    keys::refuse(&tasks, is_portable)?;
    Ok(origin)
}

/// Asks one process, and returns its monotonic and boot-time clocks.
fn ask_task(
    infected: &mut Infected,
    facts: &mut TaskFacts,
    losses: &mut Vec<Loss>,
) -> Result<[Option<i64>; 2], Error> {
    let TaskFacts { task, timers, .. } = facts;
    let mut questions = Questions::default();
    let of_process = process::ProcessQuestions::ask(&mut questions, timers);
    let vmas = task.mm.as_ref().map_or(&[][..], |mm| &mm.vmas);
    let of_areas = Policies::ask_first(&mut questions, vmas);
    let rings: Vec<(Asked, String)> = vmas
        .iter()
        .filter(|vma| vma.kind == VmaKind::AioRing)
        .map(|vma| {
            // Of no event: a context that is there has it at once (`read_events`, `fs/aio.c`).
            let args = [vma.start, 0, 0, 0, 0].map(Arg::Value);
            let asked = questions.ask(libc::SYS_io_getevents as u32, args);
            (
                asked,
                format!("memory {:x}-{:x} /[aio]", vma.start, vma.end),
            )
        })
        .collect();
    let keys = keys::ask(&mut questions);
    let answers = infected.ask(&questions)?;
    refuse_lost_rings(task.pid, &rings, &answers)?;
    if let Some(mm) = &mut task.mm {
        keys::collect(task.pid, &keys, &answers, mm)?;
    }
    let clocks_ns = of_process.read(&answers, task, losses);
    if let Some(mm) = &mut task.mm {
        of_areas.collect(&answers, infected, &mut mm.vmas)?;
        mm.mlockall = mlockall(infected, &mm.vmas)?;
    }
    let mut questions = Questions::default();
    let of_thread = thread::ThreadQuestions::ask(&mut questions);
    let answers = infected.ask_threads(&questions)?;
    for (thread, answers) in task.threads.iter_mut().zip(&answers) {
        of_thread.read(answers, thread, losses);
    }
    Ok(clocks_ns)
}

/// Refuses rings whose contexts are not there: those of the parent of a process that was forked, say.
fn refuse_lost_rings(pid: i32, rings: &[(Asked, String)], answers: &Answers) -> Result<(), Error> {
    let lost = rings
        .iter()
        .filter(|(asked, _)| answers.result(*asked).is_err());
    let refusals = lost.map(|(_, object)| Refusal {
        task: pid,
        object: object.clone(),
        reason: "it is a ring of asynchronous I/O (io_setup) of another process, or one that is no longer used".into(),
        remedy: String::new(),
    });
    Ok(Refusals(refusals.collect()).into_result()?)
}

/// Descriptors that are asked for at a time: some 80 bytes each, of the leader's room for a batch.
const AT_ONCE: usize = 4096;

/// Asks which descriptors are closed by `execve`, of those that nobody has told it of.
fn ask_for_closing(
    infected: &mut Infected,
    task: &mut Task,
    unsure: &[(Pid, i32)],
) -> Result<(), Error> {
    let own = unsure.iter().filter(|(pid, _)| pid.0 == task.pid);
    let own: Vec<i32> = own.map(|&(_, fd)| fd).collect();
    for some in own.chunks(AT_ONCE) {
        let mut questions = Questions::default();
        let ask = |&fd: &i32| {
            let args = [fd as u64, libc::F_GETFD as u64].map(Arg::Value);
            questions.ask(libc::SYS_fcntl as u32, args)
        };
        let asked: Vec<Asked> = some.iter().map(ask).collect();
        let answers = infected.ask(&questions)?;
        for (fd, asked) in some.iter().zip(asked) {
            let flags = answers.result(asked).map_err(|errno| {
                let errno = nix::errno::Errno::from_raw(errno);
                Error::Own(crate::sys::Error::new("fcntl(F_GETFD)", errno))
            })?;
            // One that is refused is not among them.
            if let Ok(place) = task.fds.binary_search_by_key(fd, |entry| entry.fd) {
                task.fds[place].cloexec = flags & libc::FD_CLOEXEC as u64 != 0;
            }
        }
    }
    Ok(())
}

/// Returns with which flags later mappings are locked. The kernel tells nobody, but the parasite's memory is such a mapping.
fn mlockall(infected: &Infected, vmas: &[Vma]) -> Result<u32, Error> {
    let pid = infected.frozen().pid();
    let is_locked = |vma: &&Vma| vma.locked || vma.locked_on_fault;
    let before: u64 = vmas.iter().filter(is_locked).map(Vma::len).sum();
    let [start, end] = infected.range();
    if procfs::status::read(pid)?.locked_kib < (before + end - start) / 1024 {
        return Ok(0);
    }
    let areas = procfs::smaps::read(pid)?;
    let parasites = areas
        .vmas
        .iter()
        .find(|area| area.start <= start && start < area.end);
    let flags = parasites.map_or(VmFlags::empty(), |area| area.vm_flags);
    let more = match flags.contains(VmFlags::LOCKONFAULT) {
        true => libc::MCL_ONFAULT,
        false => 0,
    };
    Ok(if flags.contains(VmFlags::LOCKED) {
        (libc::MCL_FUTURE | more) as u32
    } else {
        0
    })
}
