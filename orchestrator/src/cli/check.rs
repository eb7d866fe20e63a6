//! `orchestrator check`: what this kernel and this user can do.

use super::args::CheckArgs;
use super::say;
use std::process::ExitCode;

mod features;
mod probes;

use features::FEATURES;

/// Who wants a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Every dump or restore.
    Required,
    /// Some, or it makes them better.
    Wanted,
    /// Only who asks: the kernel is told of.
    Told,
}

/// A feature: its name (the peer's, where it has one), what it is for, who wants it, and its probe.
struct Feature {
    name: &'static str,
    what: &'static str,
    need: Need,
    probe: fn() -> bool,
}

/// Checks what the options say: one feature, or all that a dump and a restore need.
///
/// # Errors
/// A feature that is missing or unknown.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.feature {
        return one(name);
    }
    let mut missing = Vec::new();
    for feature in FEATURES {
        let lists_all = args.all || args.extra;
        if feature.need == Need::Told && !lists_all {
            continue;
        }
        let works = (feature.probe)();
        if !works || lists_all {
            say::line(format_args!(
                "{:20} {:8} {}",
                feature.name,
                if works { "works" } else { "missing" },
                feature.what
            ));
        }
        let is_needed = feature.need == Need::Required || lists_all;
        if !works && is_needed && feature.need != Need::Told {
            missing.push(feature.name);
        }
    }
    anyhow::ensure!(missing.is_empty(), "missing here: {}", missing.join(", "));
    say::line(format_args!("Looks good."));
    Ok(ExitCode::SUCCESS)
}

fn one(name: &str) -> anyhow::Result<ExitCode> {
    if name == "list" {
        for feature in FEATURES {
            say::line(format_args!("{}", feature.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    match FEATURES.iter().find(|feature| feature.name == name) {
        Some(feature) if (feature.probe)() => Ok(ExitCode::SUCCESS),
        Some(feature) => anyhow::bail!("feature {name} is missing here: {}", feature.what),
        None => anyhow::bail!("feature {name} is not known here; --feature list names all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_peers_suite_asks_for_is_answered() {
        let asked = "aio_remap apparmor_stacking autofs cgroupns compat_cr fdinfo_lock get_rseq_conf has_ipt_legacy \
            ipv6_freebind kcmp_epoll link_nsid loginuid mem_dirty_track memfd_hugetlb mnt_id move_mount_set_group \
            net_diag_raw network_lock_nftables newifindex nftables ns_pid pagemap_scan_guard_pages pidfd_store \
            seccomp_filters seccomp_suspend sk_unix_file sockopt_buf_lock stream tcp_half_closed timens timerfd tun tun_ns \
            uffd uffd-noncoop userns";
        for name in asked.split_whitespace() {
            assert!(
                FEATURES.iter().any(|feature| feature.name == name),
                "{name}"
            );
        }
    }
}
