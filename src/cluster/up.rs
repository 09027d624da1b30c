//! `acopio up`: starts the cluster, watches over it, starts again what dies, and ends it in order.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::child::{self, Running, Talk};
use super::classroom::Classroom;
use super::control::{Control, Links};
use super::files;
use super::plan::{self, Kind, Member};
use super::readback::{self, Found};
use super::screen::Screen;
use super::watcher::{Condition, Shared, Watcher, after};
use super::ways::Ways;
use super::{fault, keys, tail, typed};
use crate::key::file::of_a_new_one;
use crate::limits;
use crate::lock::{Lock, Role};
use tokio_util::sync::CancellationToken;

/// Settings of a cluster on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The acopio program.
    pub(crate) program: PathBuf,
    /// Show nothing.
    pub(crate) quiet: bool,
    /// Have the members tell more.
    pub(crate) verbose: bool,
    /// End by itself after this time.
    pub(crate) run_for: Option<Duration>,
    /// Start a process again this long after it died; `None` never does.
    pub(crate) restart_after: Option<Duration>,
    /// Who runs, and how.
    pub(crate) plan: plan::Settings,
}

/// The cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The folder of the cluster can't be written.
    #[error(transparent)]
    Folder(#[from] files::Error),
    /// The head cannot listen there.
    #[error("cannot listen on {address}: {source}; {}", listen_remedy(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The page cannot be served there.
    #[error("the page cannot be served at {address}: {source}; stop what listens there, or choose another --web-port")]
    Web {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A broker cannot listen there.
    #[error("a broker cannot listen on {address}: {source}; stop what listens there, or leave out --broker")]
    Broker {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no link to be had between data nodes and heads.
    #[error("there is no port for the links that data nodes dial: {0}; end other programs, or raise ulimit -n")]
    Link(std::io::Error),
    /// The head ended before it listened.
    #[error("the head did not start: {0}")]
    Head(String),
    /// A process can't be started.
    #[error(transparent)]
    Start(#[from] child::Error),
    /// What the devices need is not to be had.
    #[cfg(feature = "device")]
    #[error(transparent)]
    Devices(#[from] super::devices::Error),
    /// The keys can't be handed out.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// Another cluster runs in the folder.
    #[error(transparent)]
    InUse(#[from] crate::lock::Error),
}

/// The members of one kind that are watched over.
struct Group {
    shutdown: CancellationToken,
    watchers: JoinSet<Option<(String, Running)>>,
}

/// Runs a cluster until it is told to stop or its time is over. Needs a `LocalSet`.
///
/// # Errors
/// The folder can't be written, or the head can't start: its port is in use, for one.
pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let (screen, writer) = Screen::stdout(settings.quiet);
    let result = start_watch_end(settings, shutdown, screen).await;
    writer.finish();
    result
}

async fn start_watch_end(settings: Settings, shutdown: CancellationToken, screen: Screen) -> Result<(), Error> {
    let dir = &settings.plan.dir;
    files::probe(dir)?;
    let _lock = Lock::take(dir, Role::Cluster, "up")?;
    can_listen(&settings.plan)?;
    #[cfg(feature = "device")]
    if let Some(devices) = &settings.plan.devices {
        super::devices::prepare(devices, dir)?;
    }
    let mut members = settings.plan.members(has_address);
    let new_key = keys::hand_out(&members)?;
    // Where nobody can cut them, data nodes dial the heads themselves.
    let can_cut = std::io::stdin().is_terminal() || settings.plan.web.is_some();
    let heads = settings.plan.head_addresses();
    let links = if can_cut { Links::lay(&mut members, &heads).await } else { Ok(Links::default()) };
    let links = links.map_err(Error::Link)?;
    members.iter_mut().filter(|member| member.kind == Kind::Web).for_each(|web| web.args.push("--classroom".into()));
    let ways = Arc::<Mutex<Ways>>::default();
    let screen = screen.with_ways(Arc::clone(&ways));
    let (state, states) = watch::channel(String::new());
    let (orders, ordered) = mpsc::channel(limits::UP_ORDERS_MAX);
    let talk = settings.plan.web.map(|_| Talk { states, orders });
    let shared = Rc::new(Shared::new(&settings, screen.clone(), members.clone(), talk));
    let control = Rc::new(Control::new(Rc::clone(&shared), links));
    if let Some(web) = settings.plan.web {
        screen.say(format!("The page: http://{web}/"));
    }
    let mut groups = Kind::STOP_ORDER.map(|kind| (kind, Group::new()));
    let shown = CancellationToken::new();
    let ways_shown = tail::show_ways(members.clone(), screen.clone(), Arc::clone(&ways), shown.clone());
    let ways_shown = tokio::task::spawn_local(ways_shown);
    // Held to the end: a page whose state is over ends by itself, before it is its turn.
    let mut page = Page { state, ordered };
    let started = start(&settings.plan, &members, &shared, &mut groups, &shutdown).await;
    if matches!(started, Ok(true)) {
        introduce(&settings, &members, &shared);
        if let Some(path) = new_key {
            screen.say(of_a_new_one(&path));
        }
        attend(&settings, &control, &ways, &mut page, &shutdown).await;
    }
    let devices = if settings.plan.devices.is_some() { "devices, " } else { "" };
    let topics = if settings.plan.brokers { "the topics, then " } else { "" };
    screen.end(format!("stopping: {devices}clients, then {topics}the head, then the data nodes"));
    control.let_end();
    end(groups, &screen).await;
    shown.cancel();
    drop(ways_shown.await);
    if matches!(started, Ok(true)) {
        files::summarise(&members, &screen);
    }
    started.map(drop)
}

/// Whether all addresses are free. A head would say so as well, but with its own flags for a remedy. Each is let go of at
/// once, and free for its member.
fn can_listen(plan: &plan::Settings) -> Result<(), Error> {
    let bind = |address| TcpListener::bind(address).map(drop);
    for address in plan.listen_addresses() {
        bind(address).map_err(|source| Error::Listen { address, source })?;
    }
    if let Some(address) = plan.web {
        bind(address).map_err(|source| Error::Web { address, source })?;
    }
    if plan.brokers {
        for address in plan::BROKERS.map(|ip| SocketAddr::from((ip, limits::PUBLISHER_PORT_DEFAULT))) {
            bind(address).map_err(|source| Error::Broker { address, source })?;
        }
    }
    Ok(())
}

/// What passes between `up` and its page.
struct Page {
    state: watch::Sender<String>,
    ordered: mpsc::Receiver<String>,
}

/// Does what is typed and what the page asks for, and tells the page how things are, until the end is asked for or it is time.
async fn attend(
    settings: &Settings,
    control: &Rc<Control>,
    ways: &Arc<Mutex<Ways>>,
    page: &mut Page,
    shutdown: &CancellationToken,
) {
    let shared = control.shared();
    let has_page = settings.plan.web.is_some();
    let found = Rc::<RefCell<Found>>::default();
    let look = readback::look(Rc::clone(control), Arc::clone(ways), settings.plan.head_addresses(), Rc::clone(&found));
    let mut look = pin!(look);
    let mut classroom = Classroom::new(Rc::clone(control), Arc::clone(ways), found);
    let mut typed = typed::lines();
    let mut over = pin!(after(settings.run_for));
    let mut ticks = interval(limits::UP_STATE_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = &mut over => return,
            () = &mut look, if has_page => {}
            _ = ticks.tick(), if has_page => {
                let now = classroom.state(SystemTime::now());
                page.state.send_if_modified(|before| std::mem::replace(before, now) != *before);
            }
            Some(line) = page.ordered.recv() => drop(control.line(&line)),
            Some(line) = typed.recv() => {
                if control.line(&line) {
                    suggest(settings, &shared.members, shared);
                }
            }
        }
    }
}

/// Starts every member; false if the end was asked for before all were there.
async fn start(
    plan: &plan::Settings,
    members: &[Member],
    shared: &Rc<Shared>,
    groups: &mut [(Kind, Group)],
    shutdown: &CancellationToken,
) -> Result<bool, Error> {
    let mut ready_for_devices = false;
    for member in members {
        if member.kind == Kind::Device && !std::mem::replace(&mut ready_for_devices, true) {
            tokio::select! {
                ready = configure(plan) => ready?,
                () = shutdown.cancelled() => return Ok(false),
            }
        }
        let mut running = shared.start(member)?;
        shared.runs(member, &running, Condition::Up);
        let ready = if member.kind == Kind::Head {
            tokio::select! {
                ready = head_listens(&mut running) => ready,
                () = shutdown.cancelled() => Ok(()),
            }
        } else if matches!(member.kind, Kind::Data | Kind::Web) {
            // Clients are started when there is somebody to keep what they send; a node that takes longer is not waited for.
            tokio::select! {
                _registered_or_not = timeout(limits::UP_NODE_TIME_MAX, running.listens()) => Ok(()),
                () = shutdown.cancelled() => Ok(()),
            }
        } else {
            Ok(())
        };
        if let Some((_, group)) = groups.iter_mut().find(|(kind, _)| *kind == member.kind)
            && ready.is_ok()
        {
            let stop = group.shutdown.clone();
            group.watchers.spawn_local(Watcher::new(member.clone(), Rc::clone(shared), stop).run(running));
        }
        ready?;
        if shutdown.is_cancelled() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits for ZooKeeper, and writes there what holds for all devices.
async fn configure(plan: &plan::Settings) -> Result<(), Error> {
    #[cfg(feature = "device")]
    if let Some(devices) = &plan.devices {
        super::devices::configure(devices).await?;
    }
    #[cfg(not(feature = "device"))]
    debug_assert!(plan.devices.is_none(), "there are none");
    Ok(())
}

async fn head_listens(running: &mut Running) -> Result<(), Error> {
    match timeout(limits::UP_START_TIME_MAX, running.listens()).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let how = running.ended().await.words;
            Err(Error::Head(running.last_error().await.unwrap_or_else(|| format!("it {how}; see what it said above"))))
        }
        Err(_) => Err(Error::Head(format!(
            "it does not listen after {:?}; see what it said above, or whether this machine is overloaded",
            limits::UP_START_TIME_MAX
        ))),
    }
}

impl Group {
    fn new() -> Self {
        let shutdown = CancellationToken::new();
        Self { shutdown, watchers: JoinSet::new() }
    }
}

/// Ends group after group; all of one at the same time.
async fn end(groups: [(Kind, Group); Kind::STOP_ORDER.len()], screen: &Screen) {
    let overall = Instant::now() + limits::STOP_TIME_MAX - limits::UP_GROUP_STOP_TIME_MIN;
    for (_, mut group) in groups {
        let deadline = overall.max(Instant::now() + limits::UP_GROUP_STOP_TIME_MIN);
        group.shutdown.cancel();
        let mut ends = JoinSet::new();
        while let Some(watched) = group.watchers.join_next().await {
            if let Ok(Some((name, running))) = watched {
                ends.spawn_local(async move { (name, running.end(deadline).await) });
            }
        }
        while let Some(ended) = ends.join_next().await {
            if let Ok((name, false)) = ended {
                screen.say(format!("{name} did not end in time and was killed; acknowledged messages are kept"));
            }
        }
    }
}

/// Says what runs where, and what to try.
fn introduce(settings: &Settings, members: &[Member], shared: &Shared) {
    let screen = &shared.screen;
    let heads = settings.plan.head_addresses();
    let listen: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let listen = match &listen[..] {
        [one] => format!("Its head listens on {one}"),
        all => format!("Its heads listen on {}, all of them active", all.join(" and ")),
    };
    let dir = settings.plan.dir.display();
    let page = settings.plan.web.map(|web| format!("See it at http://{web}/\n")).unwrap_or_default();
    screen.say(format!("\n{page}The cluster runs. {listen}; all files are in {dir}/."));
    for member in members {
        screen.say(format!("  {:8} pid {:<8} {}/", member.name, shared.pid(member), member.dir.display()));
    }
    suggest(settings, members, shared);
    settings.plan.shortfall().into_iter().for_each(|words| screen.say(words));
}

/// What a newcomer may try, each in one line that can be copied.
fn suggest(settings: &Settings, members: &[Member], shared: &Shared) {
    let screen = &shared.screen;
    let Some(head) = settings.plan.head_addresses().first().copied() else { return };
    let (ip, port) = (head.ip(), head.port());
    let acopio = called(&settings.program);
    screen.say("Try, from another terminal:");
    screen.say(format!("  printf 'peticion\\nhola\\n' | nc -N {ip} {port}"));
    screen.say(format!("  {acopio} read --head {head} --last 5"));
    screen.say(format!("  {acopio} status --head {head}"));
    if let Some(member) = members.iter().find(|member| member.kind == Kind::Head) {
        screen.say(format!("  tail -F {}/heartbeat.log", member.dir.display()));
    }
    if let Some(victim) = members.iter().filter(|member| member.kind == Kind::Data).take(2).last() {
        let (name, pid) = (&victim.name, shared.pid(victim));
        screen.say(format!("  tail -F {}/data.txt", victim.dir.display()));
        screen.say(format!("  kill -9 {pid}    # ends {name}: nothing acknowledged is lost"));
    }
    for member in members.iter().filter(|member| member.kind == Kind::Topics) {
        let what = match member.name.as_str() {
            "primary" => "the backup takes over after 3 s; the primary comes back and stands by",
            "square1" => "the calculation server squares the first leg itself, after 2 s",
            _ => continue,
        };
        screen.say(format!("  kill -9 {}    # ends {}: {what}", shared.pid(member), member.name));
    }
    if let Some(devices) = &settings.plan.devices {
        suggest_devices(devices, &acopio, members, shared);
    }
    if std::io::stdin().is_terminal() {
        screen.say("Or break it from here: a key with its number, then Enter:");
        fault::KEYS.lines().for_each(|line| screen.say(format!("  {line}")));
    }
    screen.say("Enter shows this again, Ctrl-C stops everything. Times are UTC.\n");
}

/// How the program is called from where this one was started: by name, if that finds it.
fn called(program: &Path) -> String {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join("acopio")).find_map(|path| path.canonicalize().ok());
    let here = std::env::current_dir().unwrap_or_default();
    if found.is_some_and(|found| program.canonicalize().is_ok_and(|program| program == found)) {
        return "acopio".to_owned();
    }
    program.strip_prefix(&here).unwrap_or(program).display().to_string()
}

/// What to try with devices.
fn suggest_devices(devices: &plan::Devices, acopio: &str, members: &[Member], shared: &Shared) {
    let (screen, servers) = (&shared.screen, devices.zookeeper.servers());
    screen.say(format!("  curl {}listar", devices.api()));
    screen.say(format!("  {acopio} zk --zookeeper {servers} tree /"));
    screen.say(format!("  {acopio} zk --zookeeper {servers} set /config/sampling_period 8"));
    if let Some(device) = members.iter().find(|member| member.kind == Kind::Device) {
        let (name, pid) = (&device.name, shared.pid(device));
        screen.say(format!("  kill -9 {pid}    # ends {name}: if it leads, another one does some seconds later"));
    }
}

fn listen_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port with --port",
        std::io::ErrorKind::PermissionDenied => "choose a port above 1023 with --port",
        _ => "choose an address of this machine with --listen-ip",
    }
}

/// Whether this machine has an address: only then can something be bound to it.
fn has_address(ip: Ipv4Addr) -> bool {
    TcpListener::bind((ip, 0)).is_ok()
}
