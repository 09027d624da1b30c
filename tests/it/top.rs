//! `acopio top` on a real terminal: what it shows, and that the terminal is as it was in the end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::common::{Head, Signal, acopio, eventually, ran};

/// A terminal of 80 by 24 and the program in it.
pub(super) struct Terminal {
    keys: File,
    inside: File,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
    program: Child,
}

impl Terminal {
    pub(super) fn start(head: &str) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let inside = File::from(open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        tcsetwinsize(&inside, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&inside).unwrap();
        // In a session of its own, whose terminal is this one.
        let (plain, mut command) = (acopio(), Command::new("setsid"));
        command.arg("--ctty").arg(plain.get_program()).args(["top", "--head", head]).env("TERM", "xterm");
        for (name, _) in plain.get_envs() {
            command.env_remove(name);
        }
        let half = || Stdio::from(inside.try_clone().unwrap());
        let program = command.stdin(half()).stdout(half()).stderr(half()).spawn().unwrap();
        let (keys, shown) = (File::from(keys), Arc::<Mutex<Vec<u8>>>::default());
        let (mut outside, kept) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = outside.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Self { keys, inside, before, shown, program }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    pub(super) fn wait_for(&self, part: &str) {
        eventually(part, || self.text().contains(part).then_some(()));
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    /// It ends by itself, with 0, and the terminal is as it was.
    fn ends_well(mut self) {
        self.is_raw(false);
        let status = eventually("it ends", || self.program.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.text());
        let after = tcgetattr(&self.inside).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!((after.input_modes, after.output_modes), (self.before.input_modes, self.before.output_modes));
        // The screen that was there before, and its cursor.
        self.wait_for("\x1b[?1049l");
        let text = self.text();
        assert!(text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is hidden");
    }

    fn is_raw(&self, wanted: bool) {
        eventually("its mode", || {
            let cooked = tcgetattr(&self.inside).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO);
            (cooked != wanted).then_some(())
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

#[test]
fn it_shows_a_source_and_its_curve_and_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut device = head.named("esp7");
    for text in ["20C", "21.5C \u{202e}\u{1b}[2J"] {
        assert!(device.ask(text).ends_with("recibido"));
    }
    let mut terminal = Terminal::start(&head.at());
    for part in ["data1", "disponible", "esp7", "21.5C"] {
        terminal.wait_for(part);
    }
    terminal.is_raw(true);
    terminal.press(b"/esp\r\r");
    // Only what differs is written: this stands where nothing was.
    terminal.wait_for("└────");
    assert!(!terminal.text().contains('\u{202e}'), "what was stored turns the direction of writing");
    terminal.press(b"\x1b");
    eventually("the list is back", || (terminal.text().matches("EVERY").count() == 2).then_some(()));
    terminal.press(b"q");
    terminal.ends_well();

    let terminal = Terminal::start(&head.at());
    terminal.wait_for("esp7");
    kill_process(Pid::from_child(&terminal.program), Signal::TERM).unwrap();
    terminal.ends_well();
}

#[test]
fn without_a_terminal_it_names_what_needs_none() {
    let mut command = acopio();
    command.arg("top");
    let (code, out, err) = ran(command);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains("no terminal") && err.contains("'acopio status --watch'"), "{err}");
}
