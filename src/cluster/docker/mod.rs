//! A whole cluster on a docker bridge network of its own, one container for each member: `acopio demo`.
//!
//! The image is made of the program that runs. `containers` says what each container is, `engine` asks for it, `follow`
//! shows what comes of it. Everything has the demo's label, and only what has it is ever removed; the files stay.

pub(crate) mod containers;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod follow;
pub(crate) mod image;
pub(crate) mod objects;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::plan::{self, CONTAINER_PORT, Kind, Member};
use super::said::Said;
use super::screen::Screen;
use super::{LISTENING, REGISTERED, files, keys, tail};
use crate::key::file::of_a_new_one;
use crate::limits;
use crate::lock::{Lock, Role};
use containers::{Common, LABEL};
use engine::{Engine, State};
pub(crate) use error::Error;
use tokio_util::sync::CancellationToken;

/// On an image that is not a demo's; its value is the image's name.
const IMAGE_LABEL: &str = "acopio.image";

/// Settings of a cluster in containers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The acopio program that goes into the image.
    pub(crate) program: PathBuf,
    /// The engine's socket.
    pub(crate) socket: PathBuf,
    /// Name of the network, and beginning of the containers' names.
    pub(crate) name: String,
    /// An image that is there, in place of one made of the program.
    pub(crate) image: Option<String>,
    /// Address and port of this machine that lead to the first head; the others have the ports after it. Port 0 takes
    /// free ones.
    pub(crate) publish: Option<SocketAddr>,
    /// Show nothing.
    pub(crate) quiet: bool,
    /// End by itself after this time.
    pub(crate) run_for: Option<Duration>,
    /// Who runs, and how; its folder holds all files.
    pub(crate) plan: plan::Settings,
}

/// A cluster that runs in containers.
#[derive(Debug)]
pub(crate) struct Demo {
    /// Its engine.
    pub(crate) engine: Engine,
    /// Where it is told what happens.
    pub(crate) screen: Screen,
    /// Its settings.
    pub(crate) settings: Settings,
    /// Its containers, in the order in which they were started.
    pub(crate) containers: Vec<Container>,
    /// Id of its network.
    pub(crate) network: String,
    followers: JoinSet<()>,
    ending: CancellationToken,
}

/// A container that was made.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// What runs in it.
    pub(crate) member: Member,
    /// Its id.
    pub(crate) id: String,
    /// Its name at the engine.
    pub(crate) name: String,
}

/// Runs a cluster in containers until it is told to stop, its time is over, or what goes on `during` it has ended; what
/// came of that, if it got so far. Whatever happens, the containers, the network and the image are removed, and the
/// files stay. Needs a `LocalSet`.
///
/// # Errors
/// There is no engine, the folder can't be written, or something can't be started.
pub(crate) async fn run<T>(
    settings: Settings,
    shutdown: CancellationToken,
    during: impl AsyncFnOnce(&Demo, &CancellationToken) -> T,
) -> Result<Option<T>, Error> {
    let (screen, writer) = Screen::stdout(settings.quiet);
    let result = start_run_end(settings, shutdown, screen, during).await;
    writer.finish();
    result
}

async fn start_run_end<T>(
    settings: Settings,
    shutdown: CancellationToken,
    screen: Screen,
    during: impl AsyncFnOnce(&Demo, &CancellationToken) -> T,
) -> Result<Option<T>, Error> {
    let engine = Engine::dial(&settings.socket).await?;
    files::probe(&settings.plan.dir)?;
    let _lock = Lock::take(&settings.plan.dir, Role::Cluster, "demo")?;
    let name = settings.name.clone();
    if !engine.containers(&name).await?.is_empty() {
        return Err(Error::Leftover { name });
    }
    let network = engine.create_network(&name).await?;
    let ending = CancellationToken::new();
    let (containers, followers) = (Vec::new(), JoinSet::new());
    let mut demo = Demo { engine, screen, settings, containers, network, followers, ending };
    let result = demo.start_and_run(&shutdown, during).await;
    let ended = demo.end().await;
    // What went wrong first is told; what was left behind as well.
    match (result, ended) {
        (Err(error), Err(left)) => {
            demo.screen.say(left.to_string());
            Err(error)
        }
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Ok(result), Ok(())) => {
            if demo.containers.iter().any(|container| container.member.kind == Kind::Data) {
                files::summarise(&demo.members(), &demo.screen);
            }
            Ok(result)
        }
    }
}

/// Builds an image of the program under this name, and nothing else.
///
/// # Errors
/// There is no engine, or it can't build.
pub(crate) async fn build(socket: &std::path::Path, program: PathBuf, image: &str) -> Result<(), Error> {
    let engine = Engine::dial(socket).await?;
    let objects = objects::needed(&program)?;
    engine.build(image, image::archive(program, objects, (IMAGE_LABEL, image))).await
}

/// Removes what a demo that was killed left behind: containers, network, image. What was removed, in words.
///
/// # Errors
/// There is no engine, or it can't remove something.
pub(crate) async fn down(socket: &std::path::Path, name: &str) -> Result<String, Error> {
    let engine = Engine::dial(socket).await?;
    let (containers, rest) = remove_all(&engine, name, &|_| {}).await?;
    Ok(match (containers, rest) {
        (0, 0) => format!("nothing of a demo called {name} is there"),
        (containers, rest) => format!("removed {containers} containers and {rest} networks and images of {name}"),
    })
}

/// Ends what has the label, clients first and data nodes last, and removes it; how many containers, and how much else.
async fn remove_all(engine: &Engine, name: &str, tell: &dyn Fn(String)) -> Result<(usize, usize), Error> {
    let found = engine.containers(name).await?;
    for kind in Kind::STOP_ORDER.map(Some).into_iter().chain([None]) {
        let mut ends = JoinSet::new();
        for one in found.iter().filter(|one| one.kind == kind).cloned() {
            let engine = engine.clone();
            ends.spawn(async move {
                if one.paused {
                    engine.unpause(&one.id, &one.name).await?;
                }
                engine.stop(&one.id, &one.name).await
            });
        }
        while let Some(ended) = ends.join_next().await {
            if let Ok(Err(error)) = ended {
                tell(error.to_string());
            }
        }
    }
    // What can't be removed keeps nothing else from it.
    let mut failed = None;
    for one in &found {
        failed = failed.or(engine.remove(&one.id, &one.name).await.err());
    }
    let rest = engine.remove_rest(name).await;
    match failed {
        Some(error) => Err(error),
        None => Ok((found.len(), rest?)),
    }
}

impl Demo {
    async fn start_and_run<T>(
        &mut self,
        shutdown: &CancellationToken,
        during: impl AsyncFnOnce(&Self, &CancellationToken) -> T,
    ) -> Result<Option<T>, Error> {
        if !self.start(shutdown).await? {
            return Ok(None);
        }
        self.introduce().await?;
        let time = self.settings.run_for;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(None),
            result = during(self, shutdown) => Ok(Some(result)),
            () = after(time) => Ok(None),
        }
    }

    /// Starts every container; false if the end was asked for before all were there. What the engine was asked for is
    /// waited for all the same: it would be done behind the back of who removes everything.
    async fn start(&mut self, shutdown: &CancellationToken) -> Result<bool, Error> {
        let image = self.image().await?;
        let user = self.user();
        let members = self.settings.plan.members(|_| false);
        // On their network they are not on loopback: heads ask them for the key.
        if let Some(path) = keys::hand_out(&members)? {
            self.screen.say(of_a_new_one(&path));
        }
        for (i, member) in members.into_iter().enumerate() {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            files::probe(&member.dir)?;
            let folder = std::path::absolute(&member.dir).unwrap_or_else(|_| member.dir.clone());
            let publish = self.settings.publish.filter(|_| member.kind == Kind::Head).map(|address| {
                let port = if address.port() == 0 {
                    0
                } else {
                    address.port().saturating_add(u16::try_from(i).unwrap_or_default())
                };
                SocketAddr::new(address.ip(), port)
            });
            let (demo, remapped) = (&self.settings.name, self.engine.remapped);
            let common = Common { demo, image: &image, network: &self.network, user, remapped };
            let name = containers::name(&self.settings.name, &member.name);
            let body = containers::body(&common, &member, true, &folder, publish);
            let id = self.engine.create(&self.settings.name, &name, body).await?;
            self.engine.start(&id, &name).await?;
            let ready = self.follow(&member, &id, &name);
            let container = Container { member, id, name };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(false),
                ready = self.wait_for(&container, ready) => ready?,
            }
            self.containers.push(container);
        }
        Ok(true)
    }

    /// The image that was asked for, or one that is made now.
    async fn image(&self) -> Result<String, Error> {
        if let Some(image) = &self.settings.image {
            return if self.engine.image_labels(image).await?.is_some() {
                Ok(image.clone())
            } else {
                Err(Error::NoImage(image.clone()))
            };
        }
        let objects = objects::needed(&self.settings.program)?;
        let (image, count) = (format!("{}:latest", self.settings.name), objects.len());
        self.engine.claim_image(&image, &self.settings.name).await?;
        self.screen.say(format!("building the image {image}: the program and {count} shared objects"));
        let label = (LABEL, self.settings.name.as_str());
        self.engine.build(&image, image::archive(self.settings.program.clone(), objects, label)).await?;
        Ok(image)
    }

    /// Whom the files are to belong to. Where the engine itself is that user, its containers' root is.
    fn user(&self) -> (u32, u32) {
        if self.engine.rootless {
            return (0, 0);
        }
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// Shows what a container says and writes from now on; resolves when it is ready.
    fn follow(&mut self, member: &Member, id: &str, name: &str) -> oneshot::Receiver<()> {
        let (said, ready) = Said::new(member.kind, &member.name, self.screen.clone());
        let (engine, id, name) = (self.engine.clone(), id.to_owned(), name.to_owned());
        let (ending, screen) = (self.ending.clone(), self.screen.clone());
        self.followers.spawn_local(follow::output(engine, id, name, said, ending.clone(), screen.clone()));
        self.followers.spawn_local(tail::show(member.clone(), screen, ending));
        ready
    }

    /// Waits until a head listens, and for a while until a data node is registered.
    async fn wait_for(&self, container: &Container, mut ready: oneshot::Receiver<()>) -> Result<(), Error> {
        let (wanted, patience) = match container.member.kind {
            Kind::Head => (LISTENING, limits::CONTAINER_START_TIME_MAX),
            Kind::Data => (REGISTERED, limits::CONTAINER_START_TIME_MAX),
            _ => return Ok(()),
        };
        let ended = async {
            loop {
                match self.engine.state(&container.id).await {
                    Ok(State::Running) | Err(_) => sleep(limits::CONTAINER_POLL).await,
                    Ok(state) => return state,
                }
            }
        };
        let failed = |cause| Error::Start { name: container.name.clone(), cause };
        tokio::select! {
            biased;
            Ok(()) = &mut ready => Ok(()),
            state = ended => {
                // Its last words may still be on their way.
                sleep(limits::CONTAINER_POLL).await;
                Err(failed(match state {
                    State::Ended(code) => format!("it ended with exit code {code}; see what it said above"),
                    _ => "it was removed by somebody else".to_owned(),
                }))
            }
            () = sleep(patience) => Err(failed(format!(
                "it did not say '{}' within {patience:?}; see what it said above, or whether this machine is overloaded",
                wanted.trim()
            ))),
        }
    }

    /// Where a client of this machine reaches a head, as things are now: a port that the engine chose changes when a
    /// container is started again.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn head_address(&self, head: &Container) -> Result<Option<SocketAddr>, Error> {
        let local = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
            IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
            _ => address,
        };
        Ok(self.engine.published(&head.id, CONTAINER_PORT).await?.map(local))
    }

    /// The containers of one kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |container| container.member.kind == kind)
    }

    fn members(&self) -> Vec<Member> {
        self.containers.iter().map(|container| container.member.clone()).collect()
    }

    /// Says what runs where, and what to try.
    async fn introduce(&self) -> Result<(), Error> {
        let say = |line: String| self.screen.say(line);
        let dir = &self.settings.plan.dir;
        say(format!(
            "\nThe cluster runs on the docker network {}; all files are in {}/.",
            self.settings.name,
            dir.display()
        ));
        for container in &self.containers {
            say(format!("  {:24} {}/", container.name, container.member.dir.display()));
        }
        say("Try, from another terminal:".to_owned());
        for head in self.of(Kind::Head) {
            if let Some(address) = self.head_address(head).await? {
                let (ip, port) = (address.ip(), address.port());
                say(format!(
                    "  printf 'peticion\\nhola\\n' | nc -N {ip} {port}    # send a message to {}",
                    head.member.name
                ));
            }
        }
        if let Some(head) = self.of(Kind::Head).next() {
            say(format!("  tail -F {}/heartbeat.log", head.member.dir.display()));
        }
        if let Some(node) = self.of(Kind::Data).nth(1) {
            let network = &self.settings.name;
            say(format!("  tail -F {}/data.txt", node.member.dir.display()));
            say(format!(
                "  docker network disconnect {network} {}    # cut it off; 'connect' brings it back",
                node.name
            ));
            say(format!("  docker kill {0}; docker start {0}    # nothing acknowledged is lost", node.name));
        }
        say("Ctrl-C stops and removes everything but the files.\n".to_owned());
        self.settings.plan.shortfall().into_iter().for_each(say);
        Ok(())
    }

    /// Ends and removes everything that is there by now.
    async fn end(&mut self) -> Result<(), Error> {
        self.screen.end("stopping: clients, then the heads, then the data nodes");
        self.ending.cancel();
        let screen = self.screen.clone();
        let removed = remove_all(&self.engine, &self.settings.name, &|text| screen.say(text)).await;
        // Their last words.
        let told = async { while self.followers.join_next().await.is_some() {} };
        let _not_all_was_told = timeout(limits::CONTAINER_START_TIME_MAX, told).await;
        self.followers.abort_all();
        removed.map(drop)
    }
}

/// Resolves after a time, or never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}
