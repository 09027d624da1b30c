//! The engine's programming interface, over its socket: one call a method, each with a bound on its time.
//!
//! What a demo made has its label; nothing without it is touched.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;

use bollard::models::{
    ContainerCreateBody, ContainerSummaryStateEnum, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListImagesOptionsBuilder, ListNetworksOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_core::Stream;
use tokio::net::UnixStream;

use super::containers::{KIND_LABEL, LABEL, alias};
use super::error::Error;
use super::image::Archive;
use crate::cluster::plan::Kind;
use crate::limits;

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    /// Whether its containers' root is the user who runs it.
    pub(crate) rootless: bool,
    /// Whether it gives the users of containers other numbers than those of this machine.
    pub(crate) remapped: bool,
}

/// A container of a demo.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What runs in it, if its label tells.
    pub kind: Option<Kind>,
    /// Whether it is paused.
    pub paused: bool,
}

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs, or is paused.
    Running,
    /// It ended with this code.
    Ended(i64),
    /// It was removed.
    Gone,
}

impl Engine {
    /// Dials the engine at a socket.
    ///
    /// # Errors
    /// Nobody answers there, or not us, or in an old tongue.
    pub async fn dial(socket: &Path) -> Result<Self, Error> {
        let none = |cause: String| Error::NoEngine { socket: socket.to_owned(), cause };
        // Tried by hand first: what a system says is clearer than what is made of it.
        match UnixStream::connect(socket).await {
            Ok(tried) => drop(tried),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::Permission { socket: socket.to_owned() });
            }
            Err(e) => return Err(none(e.to_string())),
        }
        let path = socket.to_str().ok_or_else(|| none("its path is no text".to_owned()))?;
        let docker = Docker::connect_with_unix(path, limits::ENGINE_TIME_MAX.as_secs(), API_DEFAULT_VERSION)
            .map_err(|e| none(e.to_string()))?;
        let version = docker.version().await.map_err(|e| none(super::error::in_words(&e)))?;
        let api = version.api_version.unwrap_or_default();
        if !is_new_enough(&api) {
            return Err(Error::TooOld { version: version.version.unwrap_or_default(), api });
        }
        let docker = docker.negotiate_version().await.map_err(|e| Error::of("tell its version", e))?;
        let info = docker.info().await.map_err(|e| Error::of("tell about itself", e))?;
        let options = info.security_options.unwrap_or_default();
        let has = |option: &str| options.iter().any(|one| one.split(',').any(|part| part == option));
        Ok(Self { docker, rootless: has("name=rootless"), remapped: has("name=userns") })
    }

    /// Builds an image and gives it this name.
    ///
    /// # Errors
    /// What the engine says; the program can't be read.
    pub(crate) async fn build(&self, image: &str, archive: Archive) -> Result<(), Error> {
        let options = BuildImageOptionsBuilder::default().t(image).rm(true).forcerm(true).build();
        let docker = self.docker.clone().with_timeout(limits::ENGINE_BUILD_TIME_MAX);
        let mut steps = pin!(docker.build_image(options, None, Some(bollard::body_try_stream(archive))));
        let doing = format!("build the image {image}");
        while let Some(step) = next(&mut steps).await {
            let step = step.map_err(|e| Error::of(&doing, e))?;
            if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
                return Err(Error::of(&doing, bollard::errors::Error::DockerStreamError { error: message }));
            }
        }
        Ok(())
    }

    /// The labels of an image, if there is one of this name.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn image_labels(&self, image: &str) -> Result<Option<HashMap<String, String>>, Error> {
        match self.docker.inspect_image(image).await {
            Ok(found) => Ok(Some(found.config.and_then(|config| config.labels).unwrap_or_default())),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(Error::of("look for the image", e)),
        }
    }

    /// Sees that a demo's image takes no name away from somebody else's.
    ///
    /// # Errors
    /// There is one of that name that is not the demo's, or what the engine says.
    pub(crate) async fn claim_image(&self, image: &str, demo: &str) -> Result<(), Error> {
        match self.image_labels(image).await? {
            Some(labels) if labels.get(LABEL).is_none_or(|of| of != demo) => {
                Err(Error::NotOurs { what: "an image", name: image.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Makes a demo's bridge network; its id.
    ///
    /// # Errors
    /// One of that name is there, or what the engine says.
    pub(crate) async fn create_network(&self, demo: &str) -> Result<String, Error> {
        let doing = format!("create the network {demo}");
        if let Some(network) = self.networks_called(demo).await?.first() {
            return Err(there_already("a network", demo, demo, network.labels.as_ref()));
        }
        let request = NetworkCreateRequest {
            name: demo.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([(LABEL.to_owned(), demo.to_owned())])),
            ..Default::default()
        };
        let id = match self.docker.create_network(request).await {
            Ok(created) => created.id,
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {
                return Err(there_already("a network", demo, demo, None));
            }
            Err(e) => return Err(Error::of(&doing, e)),
        };
        // An engine may have several networks of one name, and somebody else may have made one at the same time.
        if let Some(other) = self.networks_called(demo).await?.into_iter().find(|one| one.id.as_ref() != Some(&id)) {
            unless_missing(self.docker.remove_network(&id).await, &format!("remove the network {demo}"))?;
            return Err(there_already("a network", demo, demo, other.labels.as_ref()));
        }
        Ok(id)
    }

    async fn networks_called(&self, name: &str) -> Result<Vec<bollard::models::Network>, Error> {
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let mut found = self.docker.list_networks(Some(options)).await.map_err(|e| Error::of("list networks", e))?;
        // The filter finds parts of names, too.
        found.retain(|network| network.name.as_deref() == Some(name));
        Ok(found)
    }

    /// Makes a container; its id.
    ///
    /// # Errors
    /// One of that name is there, or what the engine says.
    pub(crate) async fn create(&self, demo: &str, name: &str, body: ContainerCreateBody) -> Result<String, Error> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        match self.docker.create_container(Some(options), body).await {
            Ok(created) => Ok(created.id),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {
                let found = self.docker.inspect_container(name, None).await;
                let labels = found.ok().and_then(|found| found.config).and_then(|config| config.labels);
                Err(there_already("a container", name, demo, labels.as_ref()))
            }
            Err(e) => Err(Error::of(&format!("create {name}"), e)),
        }
    }

    /// Starts a container; one that runs goes on.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn start(&self, id: &str, name: &str) -> Result<(), Error> {
        self.docker.start_container(id, None).await.map_err(|e| Error::of(&format!("start {name}"), e))
    }

    /// Asks a container to end, and kills it if it does not in time.
    ///
    /// # Errors
    /// What the engine says; that it is gone is none.
    pub(crate) async fn stop(&self, id: &str, name: &str) -> Result<(), Error> {
        let time = i32::try_from(limits::CONTAINER_STOP_TIME_MAX.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(time).build();
        unless_missing(self.docker.stop_container(id, Some(options)).await, &format!("stop {name}"))
    }

    /// Kills a container with SIGKILL.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn kill(&self, id: &str, name: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        self.docker.kill_container(id, Some(options)).await.map_err(|e| Error::of(&format!("kill {name}"), e))
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn pause(&self, id: &str, name: &str) -> Result<(), Error> {
        self.docker.pause_container(id).await.map_err(|e| Error::of(&format!("pause {name}"), e))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn unpause(&self, id: &str, name: &str) -> Result<(), Error> {
        self.docker.unpause_container(id).await.map_err(|e| Error::of(&format!("unpause {name}"), e))
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn disconnect(&self, network: &str, id: &str, name: &str) -> Result<(), Error> {
        let request = NetworkDisconnectRequest { container: id.to_owned(), force: None };
        let doing = format!("disconnect {name} from the network");
        self.docker.disconnect_network(network, request).await.map_err(|e| Error::of(&doing, e))
    }

    /// Puts it back, under its old name.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn connect(&self, network: &str, id: &str, name: &str) -> Result<(), Error> {
        let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(alias(name)) };
        let doing = format!("connect {name} to the network");
        self.docker.connect_network(network, request).await.map_err(|e| Error::of(&doing, e))
    }

    /// How a container is.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn state(&self, id: &str) -> Result<State, Error> {
        let found = match self.docker.inspect_container(id, None).await {
            Err(e) if is_missing(&e) => return Ok(State::Gone),
            found => found.map_err(|e| Error::of("look at a container", e))?,
        };
        let state = found.state.unwrap_or_default();
        let runs = state.running.unwrap_or_default();
        Ok(if runs { State::Running } else { State::Ended(state.exit_code.unwrap_or_default()) })
    }

    /// Where on this machine a container's port is published, if it is.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) async fn published(&self, id: &str, port: u16) -> Result<Option<SocketAddr>, Error> {
        let found = self.docker.inspect_container(id, None).await.map_err(|e| Error::of("look at a container", e))?;
        let ports = found.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let bindings = ports.get(&format!("{port}/tcp")).cloned().flatten().unwrap_or_default();
        let address = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?));
        Ok(bindings.into_iter().find_map(|one| address(&one.host_ip?, &one.host_port?)))
    }

    /// What a container prints from a second of Unix time on, each piece with a time in front, until it ends.
    pub(crate) fn logs(
        &self,
        id: &str,
        since: i32,
    ) -> impl Stream<Item = Result<Bytes, bollard::errors::Error>> + use<> {
        let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).timestamps(true);
        Pieces(Box::pin(self.docker.logs(id, Some(options.since(since).build()))))
    }

    /// The containers of a demo, running or not.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn containers(&self, demo: &str) -> Result<Vec<Found>, Error> {
        // A container that somebody else made of the demo's image has that image's label, but not what a demo's runs.
        let filters = HashMap::from([("label", vec![format!("{LABEL}={demo}"), KIND_LABEL.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.map_err(|e| Error::of("list containers", e))?;
        let found = found.into_iter().map(|one| Found {
            id: one.id.unwrap_or_default(),
            name: one
                .names
                .unwrap_or_default()
                .into_iter()
                .next()
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            kind: one.labels.and_then(|labels| super::containers::kind(labels.get(KIND_LABEL)?)),
            paused: one.state == Some(ContainerSummaryStateEnum::PAUSED),
        });
        Ok(found.collect())
    }

    /// Removes a container, running or not, and nothing that it wrote elsewhere.
    ///
    /// # Errors
    /// What the engine says; that it is gone is none.
    pub async fn remove(&self, id: &str, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        unless_missing(self.docker.remove_container(id, Some(options)).await, &format!("remove {name}"))
    }

    /// Removes the networks and images of a demo; how many. What can't be removed keeps nothing else from it.
    ///
    /// # Errors
    /// What the engine says, a container that still uses one for example.
    pub(crate) async fn remove_rest(&self, demo: &str) -> Result<usize, Error> {
        let filters = HashMap::from([("label", vec![format!("{LABEL}={demo}")])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let networks = self.docker.list_networks(Some(options)).await.map_err(|e| Error::of("list networks", e))?;
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.docker.list_images(Some(options)).await.map_err(|e| Error::of("list images", e))?;
        let (mut count, mut failed) = (0, None);
        for id in networks.into_iter().filter_map(|network| network.id) {
            match unless_missing(self.docker.remove_network(&id).await, &format!("remove the network {demo}")) {
                Ok(()) => count += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for name in images.iter().filter_map(|image| to_remove(&image.id, &image.repo_tags, demo)) {
            let removed = self.docker.remove_image(name, None::<RemoveImageOptions>, None).await;
            match unless_missing(removed.map(drop), &format!("remove the image {name}")) {
                Ok(()) => count += 1,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(count), Err)
    }

    /// The socket that is dialled when none is named: `DOCKER_HOST` if it names one.
    ///
    /// # Errors
    /// It names something else.
    pub fn default_socket(docker_host: Option<&str>) -> Result<PathBuf, Error> {
        match docker_host {
            None | Some("") => Ok("/var/run/docker.sock".into()),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => Ok(path.into()),
                None => Err(Error::NoEngine {
                    socket: host.into(),
                    cause: "it is not a socket of this machine, and the files of a demo have to be".to_owned(),
                }),
            },
        }
    }
}

/// The name by which an image of a demo is removed: under another one that somebody gave it, it stays. One that lost its
/// name, or was never given it, goes by its id.
fn to_remove<'a>(id: &'a str, names: &'a [String], demo: &str) -> Option<&'a str> {
    let mut names = names.iter().map(String::as_str).filter(|name| *name != "<none>:<none>").peekable();
    if names.peek().is_none() {
        return Some(id);
    }
    names.find(|name| name.strip_prefix(demo) == Some(":latest"))
}

/// Its own leftover, or somebody else's.
fn there_already(what: &'static str, name: &str, demo: &str, labels: Option<&HashMap<String, String>>) -> Error {
    if labels.and_then(|labels| labels.get(LABEL)).is_some_and(|of| of == demo) {
        Error::Leftover { name: demo.to_owned() }
    } else {
        Error::NotOurs { what, name: name.to_owned() }
    }
}

/// Whether an engine speaks a version of its interface such as `1.41` that has what is needed.
fn is_new_enough(api: &str) -> bool {
    let parts = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts.is_some_and(|parts: (u16, u16)| parts >= limits::ENGINE_API_MIN)
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

fn unless_missing(result: Result<(), bollard::errors::Error>, doing: &str) -> Result<(), Error> {
    match result {
        Err(e) if !is_missing(&e) => Err(Error::of(doing, e)),
        _ => Ok(()),
    }
}

/// The next item of a stream.
pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}

/// Log output without its origin.
struct Pieces<S>(std::pin::Pin<Box<S>>);

impl<S> Stream for Pieces<S>
where
    S: Stream<Item = Result<bollard::container::LogOutput, bollard::errors::Error>>,
{
    type Item = Result<Bytes, bollard::errors::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(|output| output.into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_2020_is_new_enough() {
        assert!(is_new_enough("1.41") && is_new_enough("1.50") && is_new_enough("2.0"));
        assert!(!is_new_enough("1.40") && !is_new_enough("1.9") && !is_new_enough(""));
    }

    #[test]
    fn the_socket_is_the_one_that_docker_host_names() {
        let socket = |host| Engine::default_socket(host).map_err(|e| e.to_string());
        assert_eq!(socket(None), Ok("/var/run/docker.sock".into()));
        assert_eq!(socket(Some("unix:///run/user/7/docker.sock")), Ok("/run/user/7/docker.sock".into()));
        assert!(socket(Some("tcp://192.0.2.1:2375")).unwrap_err().contains("not a socket of this machine"));
    }

    #[test]
    fn what_has_no_label_is_somebody_elses() {
        let labels = HashMap::from([(LABEL.to_owned(), "lab".to_owned())]);
        assert!(matches!(there_already("a network", "lab", "lab", Some(&labels)), Error::Leftover { .. }));
        assert!(matches!(there_already("a network", "lab", "lab", None), Error::NotOurs { .. }));
        assert!(matches!(there_already("a container", "lab-head", "other", Some(&labels)), Error::NotOurs { .. }));
    }

    #[test]
    fn an_image_goes_by_the_demos_name_and_stays_under_others() {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(to_remove("f00", &names(&["a:1", "lab:latest"]), "lab"), Some("lab:latest"));
        assert_eq!(to_remove("f00", &names(&["lab-2:latest", "lab:old"]), "lab"), None);
        assert_eq!(to_remove("f00", &names(&["<none>:<none>"]), "lab"), Some("f00"));
        assert_eq!(to_remove("f00", &[], "lab"), Some("f00"));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_no_engine() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let said = Engine::dial(&socket).await.unwrap_err().to_string();
        assert!(said.contains("no docker engine at") && said.contains("apt install docker.io"), "{said}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let said = Engine::dial(&socket).await.unwrap_err().to_string();
        assert!(said.contains("systemctl start docker"), "{said}");
    }
}
