//! acopio beside its peers and the floor, in one run, in turn, several rounds: medians and ratios as a Markdown table.
//!
//! `benches/peers/run` installs the peers and starts this. `--quick` is the short form for CI: acopio against the floor
//! alone, which fails only if acopio is many times slower than it should be.

#![allow(missing_docs, clippy::indexing_slicing, reason = "a benchmark may stop at a surprise")]

mod codec;
mod contender;
mod disk;
mod floods;
mod floor;
mod load;
#[cfg(feature = "broker")]
mod topics;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use contender::{Contender, Tool};
use load::{Measured, Shape};

/// The least share of the floor's rate that `--quick` bears, at 100 connections with 64 in flight. Without optimisation
/// it is a third; a machine that does other things at the same time moves it, but not to a sixth of that.
const QUICK_RATIO_MIN: f64 = 0.05;

/// The least share of its rate that acopio keeps there with 1000 event streams open. Asked for is 0.9, of a program that is
/// optimised and a machine that has nothing else to do.
const QUICK_STREAMS_MIN: f64 = 0.4;

/// acopio beside its peers
#[derive(Parser)]
struct Args {
    /// Rounds; medians are told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that are measured, each time
    #[arg(long = "for", default_value_t = 3.0)]
    run_for: f64,
    /// Only cases whose name holds this
    #[arg(long, default_value = "")]
    case: String,
    /// Folder for all files, on the disk that is to be measured
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The floor and open event streams alone, for CI; fails if acopio is far behind
    #[arg(long)]
    quick: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

struct Case {
    name: &'static str,
    clients: usize,
    in_flight: usize,
    /// The first is who the others are compared with.
    contenders: Vec<Contender>,
}

const fn acopio(dialect: &'static str, nodes: usize, copies: usize, sync: &'static str) -> Contender {
    Contender::Acopio { dialect, nodes, copies, sync }
}

const fn floor(nodes: usize, copies: usize, sync: bool) -> Contender {
    Contender::Floor { nodes, copies, sync }
}

fn cases() -> Vec<Case> {
    let case = |name, clients, in_flight, contenders: &[Contender]| {
        let contenders = contenders.to_vec();
        Case { name, clients, in_flight, contenders }
    };
    let (one, redis) = (acopio("framed", 1, 1, "always"), Contender::Redis("always"));
    vec![
        case("100 x 64", 100, 64, &[one, floor(1, 1, true), redis]),
        case("100 x 64, three data nodes", 100, 64, &[acopio("framed", 3, 1, "always"), floor(3, 1, true), redis]),
        case("8 x 1000", 8, 1000, &[one, floor(1, 1, true)]),
        case(
            "1 client, lines",
            1,
            64,
            &[Contender::Lines(Tool::Send), Contender::Lines(Tool::Nc), acopio("line", 1, 1, "always"), redis],
        ),
        case(
            "100 x 1, raw",
            100,
            1,
            &[acopio("raw", 1, 1, "always"), floor(1, 1, true), redis, Contender::Beanstalkd, Contender::Original],
        ),
        case("1 x 1", 1, 1, &[one, acopio("raw", 1, 1, "always"), floor(1, 1, true), redis]),
        case("1 x 1, solo", 1, 1, &[Contender::Solo, redis]),
        case("100 x 64, two copies", 100, 64, &[acopio("framed", 2, 2, "always"), floor(2, 2, true)]),
        case(
            "100 x 64, no sync before the answer",
            100,
            64,
            &[acopio("framed", 1, 1, "never"), acopio("framed", 1, 1, "2m"), floor(1, 1, false), Contender::Nats],
        ),
        case("100 x 64, a sync a second", 100, 64, &[acopio("framed", 1, 1, "1s"), Contender::Redis("everysec")]),
        case("1000 x 6", 1000, 6, &[one, floor(1, 1, true), redis]),
        case("5000 x 1", 5000, 1, &[one, floor(1, 1, true), redis]),
    ]
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("floor-head") => return floor_head(&words.collect::<Vec<_>>()),
        Some("flood") => return floods::run(&words.collect::<Vec<_>>()),
        Some("floor-data") => return floor_data(&words.collect::<Vec<_>>()),
        _ => {}
    }
    let args = Args::parse();
    if args.quick {
        return quick();
    }
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    println!("| case | who | messages/s | p50 | of the first |\n|---|---|---|---|---|");
    for case in cases().iter().filter(|case| case.name.contains(&args.case)) {
        for row in measure(case, &args, &dir)? {
            println!("{row}");
        }
    }
    for (name, messages) in [("disk, a message a second", true), ("disk, nothing comes", false)] {
        if name.contains(&args.case) {
            measure_disk(name, messages, &args, &dir)?;
        }
    }
    let case = Case { name: "100 x 64", clients: 100, in_flight: 64, contenders: Vec::new() };
    watch::measure(&args.case, args.rounds, shape(&case, args.run_for), &dir)?;
    floods::measure(&args.case, args.rounds, Duration::from_secs_f64(args.run_for), &dir)?;
    #[cfg(feature = "broker")]
    for subscribers in [1, 4] {
        let name = format!("topics, subscribers: {subscribers}");
        if name.contains(&args.case) {
            measure_topics(&name, subscribers, &args, &dir)?;
        }
    }
    Ok(())
}

/// The rows of what is written to the disk: in the columns of rate and time stand bytes and flushes, a second.
fn measure_disk(name: &str, messages: bool, args: &Args, dir: &std::path::Path) -> Result<()> {
    let acopio = |nodes, copies, follower| disk::Writer::Acopio { nodes, copies, follower };
    let writers =
        [acopio(3, 1, false), acopio(3, 1, true), acopio(3, 2, false), acopio(1, 1, false), disk::Writer::Redis];
    let mut first = None;
    for writer in writers {
        let mut all = Vec::new();
        for round in 0..args.rounds {
            eprintln!("round {} of {}: {name}: {}", round + 1, args.rounds, writer.name());
            let dir = tempfile::Builder::new().prefix("acopio-peers-").tempdir_in(dir)?;
            all.push(disk::measure(writer, dir.path(), messages, Duration::from_secs_f64(args.run_for))?);
        }
        let bytes = median(all.iter().map(|one| one.bytes).collect());
        let flushes = median(all.iter().map(|one| one.flushes).collect());
        let ratio = bytes / *first.get_or_insert(bytes);
        println!("| {name} | {} | {bytes:.0} bytes/s | {flushes:.2} flushes/s | {ratio:.2} |", writer.name());
    }
    Ok(())
}

/// The rows of topics, as [`measure`] has those of the cluster, which stands beside them.
#[cfg(feature = "broker")]
fn measure_topics(name: &str, subscribers: usize, args: &Args, dir: &std::path::Path) -> Result<()> {
    use topics::Forwarder;
    let cluster = Case { name: "8 x 1000", clients: 8, in_flight: 1000, contenders: Vec::new() };
    let names = [
        Forwarder::Libzmq.name(),
        Forwarder::Acopio.name(),
        Forwarder::Keeping.name(),
        "of that: kept",
        "the cluster alone, framed, 8 x 1000",
    ];
    let mut rates = [const { Vec::new() }; 5];
    for round in 0..args.rounds {
        let rate = |forwarder: Forwarder| {
            eprintln!("round {} of {}: {name}: {}", round + 1, args.rounds, forwarder.name());
            let dir = tempfile::Builder::new().prefix("acopio-peers-").tempdir_in(dir)?;
            topics::measure(forwarder, subscribers, dir.path(), Duration::from_secs_f64(args.run_for))
        };
        rates[0].push(rate(Forwarder::Libzmq)?.forwarded);
        rates[1].push(rate(Forwarder::Acopio)?.forwarded);
        let keeping = rate(Forwarder::Keeping)?;
        rates[2].push(keeping.forwarded);
        rates[3].push(keeping.kept);
        rates[4].push(one(acopio("framed", 1, 1, "always"), dir, shape(&cluster, args.run_for))?.messages_per_s);
    }
    for (place, who) in names.into_iter().enumerate() {
        let ratios = rates[place].iter().zip(&rates[0]).map(|(this, first)| this / first).collect();
        let (rate, ratio) = (median(rates[place].clone()), median(ratios));
        println!("| {name} | {who} | {rate:.0} |  | {ratio:.2} |");
    }
    Ok(())
}

/// The rows of a case. In each round everybody has a turn, so that what the machine does meanwhile hits all of them.
fn measure(case: &Case, args: &Args, dir: &std::path::Path) -> Result<Vec<String>> {
    let shape = shape(case, args.run_for);
    let mut all: Vec<Vec<Measured>> = vec![Vec::new(); case.contenders.len()];
    for round in 0..args.rounds {
        for (place, contender) in case.contenders.iter().enumerate() {
            eprintln!("round {} of {}: {}: {}", round + 1, args.rounds, case.name, contender.name());
            all[place].push(one(*contender, dir, shape)?);
        }
    }
    let named = case.contenders.iter().zip(rows(&all));
    Ok(named.map(|(contender, row)| format!("| {} | {} | {row} |", case.name, contender.name())).collect())
}

/// Rate, p50 and ratio to the first of everybody, as medians of the rounds.
fn rows(all: &[Vec<Measured>]) -> Vec<String> {
    let rate = |place: usize| all[place].iter().map(|one| one.messages_per_s).collect::<Vec<_>>();
    let rows = all.iter().enumerate().map(|(place, measured)| {
        // The ratio of each round first: two turns of one round had the same machine.
        let ratios = rate(place).iter().zip(rate(0)).map(|(this, first)| this / first).collect::<Vec<_>>();
        let p50 = median(measured.iter().map(|one| one.p50).collect());
        let p50 = if p50.is_nan() { String::new() } else { format!("{p50:.0} us") };
        format!("{:.0} | {p50} | {:.2}", median(rate(place)), median(ratios))
    });
    rows.collect()
}

fn quick() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let case = Case { name: "100 x 64", clients: 100, in_flight: 64, contenders: Vec::new() };
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let acopio = one(acopio("framed", 1, 1, "always"), dir.path(), shape(&case, 1.0))?;
        let floor = one(floor(1, 1, true), dir.path(), shape(&case, 1.0))?;
        ratios.push(acopio.messages_per_s / floor.messages_per_s);
    }
    let ratio = median(ratios);
    println!("acopio reaches {ratio:.2} of the floor at 100 connections with 64 messages in flight");
    if ratio < QUICK_RATIO_MIN {
        bail!("that is less than {QUICK_RATIO_MIN}: something is many times slower than it should be");
    }
    let left = watch::left_by_streams(3, shape(&case, 1.0), dir.path())?;
    println!("with 1000 event streams open {left:.2} of the rate are left");
    if left < QUICK_STREAMS_MIN {
        bail!("that is less than {QUICK_STREAMS_MIN}: who looks takes what writing needs");
    }
    Ok(())
}

fn shape(case: &Case, run_for: f64) -> Shape {
    let (warm_up, run_for) = (Duration::from_secs(1), Duration::from_secs_f64(run_for));
    Shape { clients: case.clients, in_flight: case.in_flight, size: 100, warm_up, run_for }
}

fn one(contender: Contender, dir: &std::path::Path, shape: Shape) -> Result<Measured> {
    let dir = tempfile::Builder::new().prefix("acopio-peers-").tempdir_in(dir)?;
    local(contender.measure(dir.path(), shape))
}

fn local<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn floor_head(words: &[String]) -> Result<()> {
    let [listen, data, size, copies] = words else { bail!("floor-head ADDRESS DATA,… SIZE COPIES") };
    let data = data.split(',').map(str::parse).collect::<Result<Vec<SocketAddr>, _>>()?;
    let (size, copies) = (size.parse()?, copies.parse()?);
    local(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        Ok(floor::head(listener, data, size, copies).await?)
    })
}

fn floor_data(words: &[String]) -> Result<()> {
    let [listen, file, size, sync] = words else { bail!("floor-data ADDRESS FILE SIZE SYNC") };
    let (size, sync) = (size.parse()?, sync.parse()?);
    local(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        std::fs::write(format!("{file}.ready"), "").context("cannot say that it is ready")?;
        Ok(floor::data(listener, std::path::Path::new(file), size, sync).await?)
    })
}
