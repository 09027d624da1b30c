//! What processes of this machine have used, as `/proc` tells (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::data::segments;

/// What one process has used so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// Time on a core, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Most memory it ever had resident, bytes.
    pub(crate) peak: u64,
}

/// What this process has used; none if it is gone, or where there is no `/proc`.
#[must_use]
pub(crate) fn of(pid: u32) -> Option<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let ticks = cpu_ticks(&read("stat")?)?;
    let cpu = Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64);
    Some(Usage { cpu, peak: peak_bytes(&read("status")?)? })
}

/// utime and stime: fields 14 and 15, counted after the command's name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes of the files with records in a data node's folder.
#[must_use]
pub(crate) fn log_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let data = entries.filter(|entry| segments::is_data(&entry.file_name().to_string_lossy()));
    data.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 1 0 100 1000 100";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("12 (a"), None);
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    1024 kB\n"), Some(1024 * 1024));
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(of(std::process::id()).is_some_and(|usage| usage.peak > 0));
    }
}
