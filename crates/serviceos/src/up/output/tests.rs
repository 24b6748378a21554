use std::fs::OpenOptions;
use std::io::Write;

use types::ServiceName;

use super::*;

fn service() -> ServiceName {
    "vrf".parse().unwrap()
}

fn dropped(logs: &Logs) -> u64 {
    logs.dropped_of(&service())
}

/// What is kept, in a word for each line.
fn told(logs: &Logs) -> Vec<String> {
    let lines = logs.last_lines(&service());
    lines.into_iter().map(|line| format!("{} {} {}", line.replica, line.version, line.message)).collect()
}

#[test]
fn runs_of_replicas_are_followed_to_their_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Logs::default();
    let into = Destination { log: Lines::to_stdout(), format: LogFormat::Text, kept: kept.clone() };
    let follower = Follower::start(into).unwrap();
    let outputs = follower.outputs();
    let path = folder.path().join("vrf-0.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    file.write_all(b"of another up\n").unwrap();
    outputs.follow("vrf/0".parse().unwrap(), "1".into(), path.clone(), 14);
    file.write_all(b"one\nits last word").unwrap();
    outputs.ended("vrf/0".parse().unwrap(), file.metadata().unwrap().len());
    outputs.follow("vrf/1".parse().unwrap(), "1".into(), folder.path().join("missing"), 0);
    let began = file.metadata().unwrap().len();
    outputs.follow("vrf/0".parse().unwrap(), "2".into(), path, began);
    file.write_all(b"two").unwrap();
    follower.finish();
    assert_eq!(told(&kept), ["vrf/0 1 one", "vrf/0 1 its last word", "vrf/0 2 two"]);
    outputs.forget("vrf/0".parse().unwrap());
}

#[test]
fn it_is_said_now_and_then_that_not_everything_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vrf-0.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let kept = Logs::default();
    let into = Destination { log: Lines::to_stdout(), format: LogFormat::Text, kept: kept.clone() };
    let mut work = Work { into, sources: Vec::new() };
    work.follow("vrf/0".parse().unwrap(), "1".into(), path, 0);
    let began = Instant::now();
    let (mut written, mut said) = (0, 0);
    for second in 0..25 {
        let text = format!("{}\n", "x".repeat(16 << 10)).repeat(128);
        file.write_all(text.as_bytes()).unwrap();
        written += text.len() as u64;
        assert_eq!(work.look(began + Duration::from_secs(second)), SOON);
        said += kept.last_lines(&service()).iter().filter(|line| line.message == TOO_MUCH).count();
        file.write_all(b"quiet\n").unwrap();
    }
    assert!(said >= 3, "{said}");
    assert!((written / 2..written).contains(&dropped(&kept)), "{} of {written}", dropped(&kept));
    assert_eq!(work.look(began + Duration::from_secs(60)), EVERY);
}
