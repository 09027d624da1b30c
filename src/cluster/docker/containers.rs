//! What each container of a demo is made of: pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkingConfig,
    PortBinding,
};

use crate::cluster::plan::{CONTAINER_DIR, CONTAINER_PORT, Kind, Member};
use crate::limits;

/// On everything that a demo makes; its value is the demo's name.
pub(crate) const LABEL: &str = "acopio.demo";

/// On its containers: what runs in them.
pub(crate) const KIND_LABEL: &str = "acopio.kind";

/// What all containers of a demo have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common<'a> {
    /// Name of the demo.
    pub(crate) demo: &'a str,
    /// The image.
    pub(crate) image: &'a str,
    /// Id of the network.
    pub(crate) network: &'a str,
    /// User and group on this machine that the files are to belong to.
    pub(crate) user: (u32, u32),
    /// Whether the engine would give that user another number.
    pub(crate) remapped: bool,
}

/// The name of a member's container.
#[must_use]
pub(crate) fn name(demo: &str, member: &str) -> String {
    format!("{demo}-{member}")
}

/// What a label says that runs in a container.
#[must_use]
pub(crate) fn kind(label: &str) -> Option<Kind> {
    Kind::STOP_ORDER.into_iter().find(|&kind| kind.word() == label)
}

/// A member's place on the network: others find it under its name.
#[must_use]
pub(crate) fn alias(member: &str) -> EndpointSettings {
    EndpointSettings { aliases: Some(vec![member.to_owned()]), ..Default::default() }
}

/// The container of a member whose folder, an absolute path, is there. It has no rights that it does not need: a
/// read-only root, no capabilities, the engine's own seccomp profile.
#[must_use]
pub(crate) fn body(
    common: &Common<'_>,
    member: &Member,
    verbose: bool,
    folder: &Path,
    publish: Option<SocketAddr>,
) -> ContainerCreateBody {
    let verbose = verbose.then(|| "--verbose".to_owned());
    let args = member.args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let labels = [(LABEL, common.demo), (KIND_LABEL, member.kind.word())];
    let (user, group) = common.user;
    let folder = Mount {
        typ: Some(MountType::BIND),
        source: Some(folder.display().to_string()),
        target: Some(CONTAINER_DIR.to_owned()),
        ..Default::default()
    };
    let port = format!("{CONTAINER_PORT}/tcp");
    let ports = publish.map(|address| {
        let binding =
            PortBinding { host_ip: Some(address.ip().to_string()), host_port: Some(address.port().to_string()) };
        HashMap::from([(port.clone(), Some(vec![binding]))])
    });
    ContainerCreateBody {
        // The default name of a data node.
        hostname: Some(member.name.clone()),
        image: Some(common.image.to_owned()),
        cmd: Some(verbose.into_iter().chain(args).collect()),
        user: Some(format!("{user}:{group}")),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        exposed_ports: publish.map(|_| vec![port]),
        stop_timeout: i64::try_from(limits::CONTAINER_STOP_TIME_MAX.as_secs()).ok(),
        host_config: Some(HostConfig {
            mounts: Some(vec![folder]),
            network_mode: Some(common.network.to_owned()),
            port_bindings: ports,
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            // The files are to belong to the user of this machine.
            userns_mode: common.remapped.then(|| "host".to_owned()),
            // Whatever the engine does with the output of others, that of a demo can be followed, and is bounded.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), limits::CONTAINER_LOG_BYTES_MAX.to_string()),
                    ("max-file".to_owned(), limits::CONTAINER_LOG_FILES.to_string()),
                ])),
            }),
            ..Default::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(common.network.to_owned(), alias(&member.name))])),
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_its_members_name_and_folder_and_no_rights() {
        let common = Common { demo: "lab", image: "lab:latest", network: "f00", user: (1000, 100), remapped: true };
        let args = ["data", "--dir", CONTAINER_DIR].map(Into::into).to_vec();
        let member = Member { kind: Kind::Data, name: "data2".to_owned(), dir: "logs/data2".into(), args };
        let body = body(&common, &member, true, Path::new("/srv/logs/data2"), None);
        assert_eq!(body.hostname.as_deref(), Some("data2"));
        assert_eq!(body.cmd.unwrap(), ["--verbose", "data", "--dir", "/data"]);
        assert_eq!(body.user.as_deref(), Some("1000:100"));
        let labels = body.labels.unwrap();
        assert_eq!((labels[LABEL].as_str(), kind(&labels[KIND_LABEL])), ("lab", Some(Kind::Data)));
        let host = body.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.mounts.unwrap()[0].source.as_deref(), Some("/srv/logs/data2"));
        assert!(host.port_bindings.is_none() && host.privileged.is_none());
        assert_eq!(host.userns_mode.as_deref(), Some("host"), "the user of the files is one of this machine");
        let log = host.log_config.unwrap();
        assert_eq!((log.typ.as_deref(), log.config.unwrap()["max-file"].as_str()), (Some("json-file"), "2"));
    }

    #[test]
    fn a_published_port_is_one_of_the_host() {
        let common = Common { demo: "lab", image: "lab", network: "f00", user: (0, 0), remapped: false };
        let member = Member { kind: Kind::Head, name: "head".to_owned(), dir: "x".into(), args: Vec::new() };
        let body = body(&common, &member, false, Path::new("/x"), Some("127.0.0.1:7000".parse().unwrap()));
        let host = body.host_config.unwrap();
        assert_eq!(host.userns_mode, None);
        let ports = host.port_bindings.unwrap();
        let binding = &ports["5000/tcp"].as_ref().unwrap()[0];
        assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.1"), Some("7000")));
    }
}
