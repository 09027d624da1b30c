//! Whole simulated clusters, a seed each: nothing acknowledged is lost, nothing is there twice, and everything works again
//! once nothing is wrong any more.
//!
//! `ACOPIO_SEED=7 cargo test --all-features --test it simulation::one` replays a seed and shows what happens;
//! `ACOPIO_SEEDS=10000 cargo test --release --all-features --test it simulation::many -- --nocapture` runs so many new ones.

#![cfg(feature = "simulation")]

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use acopio::simulation::{self, Planted, Run};

/// Seeds that found something once.
const REGRESSIONS: &str = include_str!("seeds.txt");

/// Seeds that are always run, from 0 on.
const FIXED: u64 = 80;

/// New seeds of a run of the tests.
const NEW: u64 = 20;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn run(seed: u64) -> Run {
    simulation::run(seed, None).unwrap()
}

/// What is shown of a run that failed.
fn shown(run: &Run) -> String {
    let again = format!("ACOPIO_SEED={} cargo test --all-features --test it simulation::one -- --nocapture", run.seed);
    format!("seed {}\n{}\nproblems:\n{}\nagain: {again}\n", run.seed, run.history.join("\n"), run.problems.join("\n"))
}

/// Runs seeds on all processors; tells the first that fails, and the numbers of the others.
fn run_all(seeds: impl Iterator<Item = u64> + Send) -> Result<(), String> {
    let (started, seeds) = (Instant::now(), Mutex::new(seeds));
    let failed = Mutex::new(Vec::new());
    let (runs, sent, acked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (read, late) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { return };
                    let run = run(seed);
                    runs.fetch_add(1, Ordering::Relaxed);
                    sent.fetch_add(run.sent, Ordering::Relaxed);
                    acked.fetch_add(run.acked, Ordering::Relaxed);
                    read.fetch_add(run.read, Ordering::Relaxed);
                    late.fetch_add(u64::from(run.late > 0), Ordering::Relaxed);
                    if !run.problems.is_empty() {
                        failed.lock().unwrap().push(run);
                    }
                }
            });
        }
    });
    let (runs, time) = (runs.into_inner(), started.elapsed().as_secs_f64());
    let (sent, acked) = (sent.into_inner(), acked.into_inner());
    let (read, late) = (read.into_inner(), late.into_inner());
    println!(
        "{runs} runs in {time:.1} s, {sent} messages sent, {acked} acknowledged, {read} read; {late} runs with late ones"
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|run| (run.history.len(), run.seed));
    let all: Vec<String> = failed.iter().map(|run| run.seed.to_string()).collect();
    for run in &failed {
        println!("seed {}: {}", run.seed, run.problems.join(" | "));
    }
    if let Some(first) = failed.first() {
        return Err(format!("{} of {runs} runs failed: seeds {}\n{}", failed.len(), all.join(" "), shown(first)));
    }
    // A simulation in which nothing is ever kept would find nothing, too.
    assert!(acked > sent / 2, "{acked} of {sent} acknowledged");
    Ok(())
}

/// One seed, with the logs of everything in it: `ACOPIO_SEED`, or 0.
#[test]
fn one() {
    let seed = env("ACOPIO_SEED").unwrap_or(0);
    if env("ACOPIO_SEED").is_some() {
        let level = tracing_subscriber::filter::LevelFilter::DEBUG;
        tracing_subscriber::fmt().without_time().with_max_level(level).with_writer(std::io::stderr).init();
    }
    let run = run(seed);
    assert!(run.problems.is_empty(), "{}", shown(&run));
}

#[test]
fn seeds_that_found_something_once() {
    let lines = REGRESSIONS.lines().filter_map(|line| line.split('#').next().map(str::trim));
    for seed in lines.filter(|line| !line.is_empty()) {
        let run = run(seed.parse().expect("a seed a line"));
        assert!(run.problems.is_empty(), "{}", shown(&run));
    }
}

#[test]
fn fixed_seeds() {
    run_all(0..FIXED).unwrap_or_else(|failed| panic!("{failed}"));
}

/// What a new seed finds was there before the change that is tested: it is reported, and does not decide over a merge.
/// Whoever asks for a number of them wants to know: then it fails.
#[test]
fn many_new_seeds() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let count = env("ACOPIO_SEEDS");
    println!("new seeds from {now} on");
    let Err(failed) = run_all(now..now.saturating_add(count.unwrap_or(NEW))) else { return };
    assert!(count.is_none(), "{failed}");
    // Past the capture of a test's output, which hides what passes.
    writeln!(std::io::stderr(), "REPORT: new seeds of the simulation found something:\n{failed}").unwrap();
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..8 {
        let (first, again) = (run(seed), run(seed));
        assert_eq!(first, again, "seed {seed}");
        assert_ne!(first.digest, run(seed + 1_000_000).digest);
    }
}

/// Faults that the checks find in few seeds. `NoReplacement` is none of them: a client that hears nothing sends again.
const PLANTS: [Planted; 5] =
    [Planted::AckBeforeSync, Planted::FolderUnsynced, Planted::AckEarly, Planted::ReaderDrops, Planted::ReaderRepeats];

/// Seeds in which a planted fault has to be found at the latest.
const PLANTED: u64 = 500;

#[test]
fn planted_faults_are_found() {
    for planted in PLANTS {
        let found = (0..PLANTED).find(|seed| !simulation::run(*seed, Some(planted)).unwrap().problems.is_empty());
        let seed = found.unwrap_or_else(|| panic!("{planted:?} is not found within {PLANTED} seeds"));
        println!("{planted:?}: seed {seed}");
    }
}
