//! Output that goes nowhere: a full disk, a pipe that nobody reads or that was closed. What is told must never decide over
//! what is done.

use std::fs::OpenOptions;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Mesh, eventually, kill, processes_of};

/// A mesh with these places for its output becomes healthy, replaces a killed replica, and drains.
fn lives_with(out: impl Into<Stdio>, err: impl Into<Stdio>) {
    let mesh = Mesh::new().service("vrf", 2);
    let mut child = mesh.start_with(out, err);
    let replicas = || -> Option<Vec<Value>> {
        let status: Value = serde_json::from_str(&mesh.run(&["status", "--json"]).out).ok()?;
        let replicas = status["services"][0]["replicas"].as_array()?.clone();
        replicas.iter().all(|replica| replica["selectable"] == true).then_some(replicas)
    };
    let victim = eventually("every replica to be selectable", replicas)[0]["pid"].as_u64().unwrap();
    kill(u32::try_from(victim).unwrap(), Signal::KILL);
    eventually("the replacement", || replicas().filter(|replicas| replicas[0]["pid"] != victim));
    kill(child.id(), Signal::TERM);
    let status = eventually("serviceos to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

fn full() -> OwnedFd {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    lives_with(full(), full());
}

#[test]
fn pipes_that_nobody_reads_stop_nothing() {
    let ((out_reader, out), (err_reader, err)) = (pipe().unwrap(), pipe().unwrap());
    for pipe in [&out, &err] {
        // As small as the kernel makes them, so that the first lines fill them.
        rustix::pipe::fcntl_setpipe_size(pipe, 4096).unwrap();
        let fill = vec![b'x'; 4096];
        rustix::io::write(pipe, &fill).unwrap();
    }
    lives_with(out, err);
    drop((out_reader, err_reader));
}

#[test]
fn closed_pipes_stop_nothing() {
    let ((_, out), (_, err)) = (pipe().unwrap(), pipe().unwrap());
    lives_with(out, err);
}

#[test]
fn short_commands_end_with_a_word_and_not_with_a_panic() {
    let mesh = Mesh::new();
    mesh.write("services: {vrf: }\n");
    let validate = |out: Stdio| {
        let mut command = mesh.command();
        let output =
            command.args(["config", "validate"]).stdout(out).stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = validate(full().into());
    assert_eq!(code, Some(1));
    assert!(said.contains("failed to write to standard output"), "{said}");
    assert_eq!(
        validate(pipe().unwrap().1.into()),
        (Some(0), String::new()),
        "a reader that went away is no error"
    );
}
