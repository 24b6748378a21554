//! `serviceos top` in a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Child;
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use testkit::{Mesh, Running, eventually};

/// A terminal, what was written to it so far, and `top` in it.
struct Shown {
    keys: File,
    terminal: File,
    written: Arc<Mutex<Vec<u8>>>,
    top: Child,
}

/// What begins and ends the time in which the terminal shows nothing else.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

/// Rows and columns in which there is room for everything.
const LARGE: (u16, u16) = (30, 150);

fn set_size(terminal: &File, (ws_row, ws_col): (u16, u16)) {
    tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Shown {
    fn top(mesh: &Running) -> Self {
        Self::top_in(mesh, "xterm", LARGE)
    }

    /// In a terminal of this kind, with so many rows and columns.
    fn top_in(mesh: &Running, term: &str, size: (u16, u16)) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let not_ours = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(not_ours);
        let terminal = options.open(name.to_str().unwrap()).unwrap();
        set_size(&terminal, size);
        let of_child = || terminal.try_clone().unwrap();
        let mut command = mesh.command();
        command.arg("top").env("TERM", term).stdin(of_child()).stdout(of_child()).stderr(of_child());
        let top = command.spawn().unwrap();
        let keys = File::from(controller);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reads, collected) = (keys.try_clone().unwrap(), Arc::clone(&written));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reads.read(&mut bytes) {
                collected.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { keys, terminal, written, top }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until this was written behind the first `seen` bytes, and forgets what was before.
    fn until(&self, text: &str) {
        eventually(&format!("{text:?} on the terminal"), || self.written().contains(text).then_some(()));
    }

    fn forget(&self) {
        self.written.lock().unwrap().clear();
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).unwrap();
    }

    fn check_restored(mut self) {
        assert_eq!(self.top.wait().unwrap().code(), Some(0), "{}", self.written());
        self.until(LEFT);
        self.check_modes();
    }

    fn check_modes(&self) {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    }
}

#[test]
fn a_terminal_shows_services_and_replicas_until_q_and_is_as_before() {
    let mesh = Mesh::new().service("vrf", 1).service("datafeed", 1).up();
    let mut shown = Shown::top(&mesh);
    for text in [ENTERED, "healthy", "vrf/0", "datafeed/0", "REQ/S", "events", "name)"] {
        shown.until(text);
    }
    shown.press("r");
    shown.until("requests");
    shown.press("q");
    shown.check_restored();
    let mut shown = Shown::top(&mesh);
    shown.until("vrf/0");
    shown.press("\u{3}");
    shown.check_restored();
    let shown = Shown::top(&mesh);
    shown.until("vrf/0");
    testkit::kill(shown.top.id(), Signal::TERM);
    shown.check_restored();
}

#[test]
fn a_terminal_may_have_any_size_and_another_one_later() {
    let mesh = Mesh::new().service("vrf", 1).up();
    for tiny in [(1, 1), (0, 0), (1, 150), (30, 1)] {
        let mut shown = Shown::top_in(&mesh, "xterm", tiny);
        shown.until(ENTERED);
        set_size(&shown.terminal, LARGE);
        shown.until("vrf/0");
        shown.forget();
        set_size(&shown.terminal, tiny);
        shown.press("r");
        eventually("the terminal to be cleared", || (!shown.written().is_empty()).then_some(()));
        shown.press("q");
        shown.check_restored();
    }
}

#[test]
fn a_terminal_that_nothing_can_be_drawn_in_is_left_alone() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let mut shown = Shown::top_in(&mesh, "dumb", LARGE);
    assert_eq!(shown.top.wait().unwrap().code(), Some(1));
    shown.until("`serviceos status`");
    assert!(!shown.written().contains('\u{1b}'), "{}", shown.written());
    shown.check_modes();
}

#[test]
fn an_up_that_is_away_is_said_to_be_and_the_next_one_is_shown() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let mut shown = Shown::top(&mesh);
    shown.until("vrf/0");
    mesh.signal(Signal::KILL);
    mesh.wait();
    shown.until("AWAY");
    shown.forget();
    let mesh = mesh.up_again();
    shown.until("healthy");
    shown.until(&mesh.pid().to_string());
    shown.press("q");
    shown.check_restored();
}

#[test]
fn what_is_no_terminal_is_told_what_to_use_instead() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let refused = mesh.run(&["top"]);
    assert!(refused.code == 1 && refused.err.contains("`serviceos status`"), "{refused:?}");
    drop(mesh);
    let nobody = Mesh::new().service("vrf", 1);
    let mut command = nobody.command();
    command.arg("top");
    assert_ne!(command.output().unwrap().status.code(), Some(0));
}
