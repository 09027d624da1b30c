//! What `acopio demo` says of engines that it can't use, by sockets that are no engine's: none of them is needed here.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::acopio;

/// Listens as an engine that answers as it is told: status and text, by method and path.
fn engine(dir: &Path, answer: fn(&str) -> (u16, &'static str)) -> PathBuf {
    let path = dir.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            // Who only tries whether somebody listens says nothing.
            std::thread::spawn(move || serve(socket.unwrap(), answer));
        }
    });
    path
}

/// Reads one request with its body, and answers it.
fn serve(socket: UnixStream, answer: fn(&str) -> (u16, &'static str)) -> Option<()> {
    let mut input = BufReader::new(socket);
    let (mut request, mut length, mut chunked) = (String::new(), 0, false);
    input.read_line(&mut request).ok().filter(|&n| n > 0)?;
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        chunked |= line == "transfer-encoding: chunked";
        length = line.strip_prefix("content-length: ").map_or(length, |n| n.parse().unwrap());
    }
    while chunked {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let chunk = u64::from_str_radix(line.trim(), 16).ok()?;
        std::io::copy(&mut input.by_ref().take(chunk + 2), &mut std::io::sink()).ok()?;
        chunked = chunk > 0;
    }
    std::io::copy(&mut input.by_ref().take(length), &mut std::io::sink()).ok()?;
    let (status, text) = answer(&request);
    let head = format!("HTTP/1.1 {status} as told\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", text.len()) };
    input.get_mut().write_all(format!("{head}{length}\r\n{text}").as_bytes()).ok()
}

/// What a demo that can't start says.
fn said(mut command: Command, socket: &Path, dir: &Path) -> String {
    let output = command.args(["demo", "--dir"]).arg(dir.join("logs")).arg("--socket").arg(socket).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{error}");
    error.into_owned()
}

#[test]
fn no_engine_is_told_with_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = said(acopio(), &dir.path().join("none.sock"), dir.path());
    assert!(error.starts_with("acopio: no docker engine at ") && error.contains("apt install docker.io"), "{error}");
}

#[test]
fn a_socket_that_is_not_for_this_user_is_told_with_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let socket = engine(dir.path(), |_| (200, "{}"));
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    // Root may open everything, so somebody else tries, who may not even see the folder that the program is in.
    let program = File::open(env!("CARGO_BIN_EXE_acopio")).unwrap();
    let mut command = acopio();
    if rustix::process::geteuid().is_root() {
        command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.uid(65_534).gid(65_534).env_clear();
    }
    let error = said(command, &socket, dir.path());
    assert!(error.contains("no permission to use the docker engine at ") && error.contains("usermod -aG"), "{error}");
}

#[test]
fn an_engine_from_before_2020_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let socket = engine(dir.path(), |_| (200, r#"{"Version":"18.09.1","ApiVersion":"1.39"}"#));
    let error = said(acopio(), &socket, dir.path());
    assert!(error.contains("the docker engine 18.09.1 is too old: it speaks API 1.39"), "{error}");
}

#[test]
fn what_is_no_engine_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = engine(dir.path(), |_| (404, "<html>no such page</html>"));
    let error = said(acopio(), &socket, dir.path());
    assert!(error.starts_with("acopio: no docker engine at "), "{error}");
}

#[test]
fn a_full_disk_of_the_engine_is_told_with_how_to_free_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = engine(dir.path(), |request| {
        let is = |part: &str| request.contains(part);
        if is("/version") {
            (200, r#"{"Version":"20.10.24","ApiVersion":"1.41"}"#)
        } else if is("/info") {
            (200, "{}")
        } else if is("POST") && is("/networks/create") {
            (201, r#"{"Id":"f00","Warning":""}"#)
        } else if is("/build") {
            (200, r#"{"errorDetail":{"message":"write /root/acopio: no space left on device"}}"#)
        } else if is("/images/acopio-demo") {
            (404, r#"{"message":"No such image"}"#)
        } else if is("DELETE") {
            (204, "")
        } else {
            (200, "[]")
        }
    });
    let error = said(acopio(), &socket, dir.path());
    assert!(error.contains("the disk of the docker engine is full: ") && error.contains("docker system df"), "{error}");
}
