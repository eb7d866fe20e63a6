//! What is read of all threads once the last of them stands still: their registers by ptrace, which only the thread that
//! traces them can do, and beside it what `/proc` says of each, by a second one where there are many.

use super::{Error, Frozen, Stopped};
use crate::procfs::{self, status::Status};
use crate::sys::{Pid, Tid};
use arch::native::sigframe::Sizes;

/// From this many threads on a second one of ours is worth its making.
const WORTH_A_THREAD: usize = 32;

/// What `/proc` says of a thread.
type Seen = (Box<Status>, Vec<Pid>);

impl Frozen {
    /// Reads registers and status of all threads, and who their children are.
    ///
    /// # Errors
    /// ptrace failed, or `/proc` cannot be read.
    pub(super) fn look_and_read(&mut self) -> Result<(), Error> {
        let (pid, sizes) = (self.pid, self.sizes);
        let tids: Vec<Tid> = self.threads.iter().map(|thread| thread.tid).collect();
        let threads = &mut self.threads;
        let seen = if tids.len() < WORTH_A_THREAD {
            read_states(threads, &sizes)?;
            look(pid, &tids)?
        } else {
            std::thread::scope(|scope| {
                let looking = scope.spawn(|| look(pid, &tids));
                let read = read_states(threads, &sizes);
                let seen = looking.join().expect("reading does not panic");
                read.and(seen)
            })?
        };
        let mut children = Vec::new();
        for (thread, (status, its)) in self.threads.iter_mut().zip(seen) {
            thread.status = Some(status);
            children.extend(its);
        }
        self.first_children = Some(children);
        Ok(())
    }
}

fn read_states(threads: &mut [Stopped], sizes: &Sizes) -> Result<(), Error> {
    threads
        .iter_mut()
        .try_for_each(|thread| thread.read_state(sizes))
}

fn look(pid: Pid, tids: &[Tid]) -> Result<Vec<Seen>, Error> {
    let one = |&tid| {
        let status = procfs::status::read((pid, tid))?;
        let children = procfs::tasks::read_children(pid, tid)?;
        Ok((Box::new(status), children))
    };
    tids.iter().map(one).collect()
}
