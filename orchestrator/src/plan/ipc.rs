//! The tree's own IPC namespace: the root is born in a new one, and fills it when all are born. Segments of shared memory are
//! made by it too (`plan/segments.rs`); who has them attached attaches them later.

use super::program::Object;
use super::segments;
use super::task::Making;
use crate::objects::ipc::plan;
use crate::objects::shm::plan::plan_next_id;

/// Adds room for all that is to be in the namespace.
pub fn plan_room(m: &mut Making<'_>) {
    let Some(own) = namespace(m) else {
        return;
    };
    m.b.object(Object::Task("room in the IPC namespace"));
    plan::plan_settings(&mut m.b, &plan::roomy(own, &m.snapshot.posix_queues), None);
}

/// Adds semaphores, queues and then the settings.
pub fn plan_objects(m: &mut Making<'_>) {
    let Some(own) = namespace(m) else {
        return;
    };
    for set in &own.semaphores {
        let object = Object::Named(format!("semaphores {}", set.perm.id));
        m.b.object(object.clone());
        plan_next_id(&mut m.b, plan::NEXT_SEMAPHORES, set.perm.id);
        segments::plan_as_maker(m, &set.perm, object, |b| plan::plan_get_semaphores(b, set));
        plan::plan_semaphores(&mut m.b, set);
    }
    for queue in &own.queues {
        let object = Object::Named(format!("message queue {}", queue.perm.id));
        m.b.object(object.clone());
        plan_next_id(&mut m.b, plan::NEXT_QUEUE, queue.perm.id);
        segments::plan_as_maker(m, &queue.perm, object, |b| plan::plan_get_queue(b, queue));
        plan::plan_queue(&mut m.b, queue);
    }
    m.b.object(Object::Task("settings of the IPC namespace"));
    let roomy = plan::roomy(own, &m.snapshot.posix_queues);
    plan::plan_settings(&mut m.b, &own.settings, Some(&roomy));
}

/// Adds the setting by which segments go that nobody has attached.
pub fn plan_finish(m: &mut Making<'_>) {
    if let Some(own) = namespace(m) {
        m.b.object(Object::Task("settings of the IPC namespace"));
        plan::plan_forced(&mut m.b, &own.settings);
    }
}

/// Returns the namespace, if the task at hand is to make it.
fn namespace<'a>(m: &Making<'a>) -> Option<&'a crate::snapshot::IpcNamespace> {
    m.snapshot.ipc.as_ref().filter(|_| m.is_root())
}
