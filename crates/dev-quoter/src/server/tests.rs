//! The server over real sockets, with real processes.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, Stdio};

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy};
use mesh_protocol::{
    Evidence, EvidenceSource, QuoterControl, QuoterError, QuoterSource, read_frame, register,
    send_with_descriptors,
};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const W: [u8; 32] = [5; 32];

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("nothing here takes 10 seconds")
}

/// A quoter that runs, with the control connection of whoever started it.
struct Running {
    folder: TempDir,
    control: QuoterControl,
    shutdown: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), DevQuoterError>>,
}

impl Running {
    async fn new() -> Self {
        Self::with_room_for(MAX_PROCESSES).await
    }

    async fn with_room_for(processes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let quoter = Quoter::open(&folder.path().join("quoter"), unix_now()).unwrap();
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        let place = place(&folder);
        let (shutdown, told) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let told = async { told.await.unwrap_or(()) };
            serve(quoter, &place, parent(theirs, false), told, processes).await
        });
        let control = QuoterControl::from_stream(ours).unwrap();
        // Once it answers, it also listens.
        within(control.root()).await.unwrap();
        Self { folder, control, shutdown: Some(shutdown), ended }
    }

    fn place(&self) -> Place {
        place(&self.folder)
    }

    fn connect(&self) -> StdUnixStream {
        StdUnixStream::connect(self.place().socket).unwrap()
    }

    async fn register(&self, process: OwnedFd, workload: [u8; 32]) -> StdUnixStream {
        let mut registration = within(self.control.registration()).await.unwrap();
        let registered = spawn_blocking(move || register(&mut registration, process.as_fd(), workload));
        within(registered).await.unwrap().unwrap()
    }

    async fn verify(&self, evidence: &Evidence) -> ([u8; 32], [u8; 64]) {
        let root = within(self.control.root()).await.unwrap();
        let collateral: QuoteCollateralV3 = serde_json::from_slice(&evidence.collateral).unwrap();
        let now = unix_now();
        let policy = QuotePolicy::claims_only(now);
        let claims =
            QuoteVerifier::new(root).verify_with_policy(&evidence.quote, collateral, now, &policy).unwrap();
        let report = claims.report.as_sgx().unwrap();
        (report.mr_enclave, report.report_data)
    }
}

fn place(folder: &TempDir) -> Place {
    Place { socket: folder.path().join("quoter.sock"), control_key: folder.path().join("quoter.key") }
}

fn this_process() -> OwnedFd {
    pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
}

/// A process that waits for the end of its standard input.
fn waiting() -> (Child, OwnedFd) {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    (child, pidfd_open(pid, PidfdFlags::empty()).unwrap())
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

/// The code of a refusal; `None` where nothing came. Anything else fails the test.
fn refusal_in(bytes: &[u8]) -> Option<String> {
    let (length, payload) = bytes.split_first_chunk()?;
    assert_eq!(usize::try_from(u32::from_be_bytes(*length)).unwrap(), payload.len(), "more than one frame");
    match QuoterAnswer::decode(payload).unwrap() {
        QuoterAnswer::Refused { code, .. } => Some(code),
        QuoterAnswer::Done(bytes) => panic!("{} bytes were given", bytes.len()),
    }
}

async fn rest_of(stream: StdUnixStream) -> Vec<u8> {
    let mut stream = from_std(stream).unwrap();
    let mut rest = Vec::new();
    match within(stream.read_to_end(&mut rest)).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => rest,
    }
}

#[tokio::test]
async fn a_launched_process_gets_quotes_with_its_own_workload() {
    let quoter = Running::new().await;
    for workload in [W, [6; 32]] {
        let source = QuoterSource::new(quoter.register(this_process(), workload).await).unwrap();
        for report_data in [[1; 64], [2; 64]] {
            let evidence = within(source.evidence(report_data)).await.unwrap();
            assert_eq!(quoter.verify(&evidence).await, (workload, report_data));
        }
    }
}

#[tokio::test]
async fn the_authority_gets_its_evidence_over_the_control_connection() {
    let quoter = Running::new().await;
    let evidence = within(quoter.control.evidence([3; 64], [4; 32])).await.unwrap();
    assert_eq!(quoter.verify(&evidence).await, ([4; 32], [3; 64]));
}

#[tokio::test]
async fn whoever_can_read_the_control_key_has_the_same_control_over_the_named_socket() {
    let quoter = Running::new().await;
    let Place { socket, control_key } = quoter.place();
    for path in [&socket, &control_key] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let control = within(QuoterControl::connect(&socket, &control_key)).await.unwrap();
    let (named, handed) =
        (within(control.root()).await.unwrap(), within(quoter.control.root()).await.unwrap());
    assert_eq!(named, handed);
    within(control.registration()).await.unwrap();
}

#[tokio::test]
async fn a_stranger_on_the_named_socket_gets_nothing_whatever_it_says() {
    let quoter = Running::new().await;
    let requests =
        [vec![7; 64], vec![], mesh_protocol::QuoterRequest::Root.encode(), vec![3; 97], vec![0; 300]];
    for request in requests {
        let mut stream = quoter.connect();
        stream.write_all(&frame(&request)).unwrap();
        assert_eq!(refusal_in(&rest_of(stream).await).as_deref(), Some("CALLER_NOT_LAUNCHED"), "{request:?}");
    }
    let mut registering = quoter.connect();
    let (socket, _kept) = StdUnixStream::pair().unwrap();
    let process = this_process();
    send_with_descriptors(&mut registering, &[5; 65], &[process.as_fd(), socket.as_fd()]).unwrap();
    assert_eq!(refusal_in(&rest_of(registering).await).as_deref(), Some("CALLER_NOT_LAUNCHED"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let quoter = Running::new().await;
    let before = tokio::time::Instant::now();
    assert_eq!(refusal_in(&rest_of(quoter.connect()).await).as_deref(), Some("CALLER_NOT_LAUNCHED"));
    assert!(before.elapsed() >= KEY_LIMIT);
}

#[tokio::test]
async fn another_control_key_opens_nothing_and_one_that_others_can_read_is_not_used() {
    let quoter = Running::new().await;
    let Place { socket, control_key } = quoter.place();
    let other = quoter.folder.path().join("other.key");
    let mut key = std::fs::read(&control_key).unwrap();
    key[31] ^= 1;
    file::write(&other, &key).unwrap();
    let refused = within(QuoterControl::connect(&socket, &other)).await.map(drop).unwrap_err();
    assert!(
        matches!(&refused, QuoterError::Refused { code, .. } if code == "CALLER_NOT_LAUNCHED"),
        "{refused}"
    );
    std::fs::set_permissions(&control_key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let unusable = within(QuoterControl::connect(&socket, &control_key)).await.map(drop).unwrap_err();
    assert!(unusable.to_string().contains("chmod 600"), "{unusable}");
}

/// What `program` finds on a connected named socket in the place of its standard input.
async fn executed_on(stream: StdUnixStream, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = tokio::process::Command::from(Command::new(program))
        .args(arguments)
        .stdin(OwnedFd::from(stream))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    within(output).await.unwrap().stdout
}

#[tokio::test]
async fn a_stranger_that_connects_asks_and_executes_an_honest_program_gets_no_quote() {
    let quoter = Running::new().await;
    let mut stream = quoter.connect();
    stream.write_all(&frame(&[7; 64])).unwrap();
    let found = executed_on(stream, "cat", &[]).await;
    assert_eq!(refusal_in(&found).as_deref(), Some("CALLER_NOT_LAUNCHED"));
}

#[tokio::test]
async fn an_honest_program_that_asks_over_a_strangers_connection_gets_no_quote() {
    let quoter = Running::new().await;
    // The length 64, then 64 digits.
    let asking = r"printf '\0\0\0\100%064d' 0 >&0; exec cat";
    let found = executed_on(quoter.connect(), "sh", &["-c", asking]).await;
    assert_eq!(refusal_in(&found).as_deref(), Some("CALLER_NOT_LAUNCHED"));
}

#[tokio::test]
async fn an_evidence_socket_dies_with_its_process_whoever_else_holds_it() {
    let quoter = Running::new().await;
    let (mut child, pidfd) = waiting();
    let stream = quoter.register(pidfd, W).await;
    let (held, source) = (stream.try_clone().unwrap(), QuoterSource::new(stream).unwrap());
    within(source.evidence([1; 64])).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rest_of(held).await, b"", "it is closed without having been asked");
    let gone = within(source.evidence([1; 64])).await.unwrap_err();
    assert!(gone.to_string().contains("is gone"), "{gone}");
}

#[tokio::test]
async fn a_process_that_has_ended_before_it_is_registered_gets_nothing() {
    let quoter = Running::new().await;
    let (mut child, pidfd) = waiting();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut stream = quoter.register(pidfd, W).await;
    let _may_be_closed_already = stream.write_all(&frame(&[1; 64]));
    assert_eq!(rest_of(stream).await, b"");
}

#[tokio::test]
async fn a_registration_socket_takes_one_registration() {
    let quoter = Running::new().await;
    let mut registration = within(quoter.control.registration()).await.unwrap();
    let twice = spawn_blocking(move || {
        let process = this_process();
        let first = register(&mut registration, process.as_fd(), W);
        (first, register(&mut registration, process.as_fd(), [6; 32]))
    });
    let (first, second) = within(twice).await.unwrap();
    let source = QuoterSource::new(first.unwrap()).unwrap();
    assert!(matches!(second, Err(QuoterError::Gone)), "{second:?}");
    let evidence = within(source.evidence([1; 64])).await.unwrap();
    assert_eq!(quoter.verify(&evidence).await.0, W);
}

#[tokio::test]
async fn of_two_registrations_that_arrive_together_the_second_is_dropped() {
    let quoter = Running::new().await;
    let mut registration = within(quoter.control.registration()).await.unwrap();
    let (first, theirs) = StdUnixStream::pair().unwrap();
    let (second, others) = StdUnixStream::pair().unwrap();
    let process = this_process();
    let message = |workload: [u8; 32]| [b"serviceos/quoter/registration/v1\0", &workload[..]].concat();
    for (workload, socket) in [(W, theirs), ([6; 32], others)] {
        let descriptors = [process.as_fd(), socket.as_fd()];
        send_with_descriptors(&mut registration, &message(workload), &descriptors).unwrap();
    }
    let answers = rest_of(registration).await;
    assert_eq!(answers, frame(&QuoterAnswer::Done(Vec::new()).encode()), "one answer");
    assert_eq!(rest_of(second).await, b"");
    let evidence = within(QuoterSource::new(first).unwrap().evidence([1; 64])).await.unwrap();
    assert_eq!(quoter.verify(&evidence).await.0, W);
}

#[tokio::test]
async fn a_registration_without_a_pidfd_is_refused() {
    let quoter = Running::new().await;
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (reader, _writer) = io::pipe().unwrap();
    for descriptor in [file, OwnedFd::from(reader)] {
        let mut registration = within(quoter.control.registration()).await.unwrap();
        let registered = spawn_blocking(move || register(&mut registration, descriptor.as_fd(), W));
        let refused = within(registered).await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("is a pidfd"), "{refused}");
    }
}

#[tokio::test]
async fn report_data_of_another_length_closes_the_evidence_socket() {
    let quoter = Running::new().await;
    for length in [0, 63, 65, 1 << 20] {
        let mut stream = quoter.register(this_process(), W).await;
        let length = u32::try_from(length).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &vec![1; length.min(65) as usize]].concat()).unwrap();
        assert_eq!(
            refusal_in(&rest_of(stream).await).as_deref(),
            Some("QUOTER_REQUEST_MALFORMED"),
            "{length}"
        );
    }
}

#[tokio::test]
async fn there_is_room_for_so_many_processes_and_again_once_one_has_ended() {
    let quoter = Running::with_room_for(1).await;
    let first = within(quoter.control.registration()).await.unwrap();
    let refused = within(quoter.control.registration()).await.unwrap_err();
    assert!(matches!(refused, QuoterError::Refused { ref code, .. } if code == "QUOTER_FULL"), "{refused}");
    drop(first);
    within(async { while quoter.control.registration().await.is_err() {} }).await;
}

#[tokio::test]
async fn there_is_room_for_so_many_control_connections() {
    let quoter = Running::new().await;
    let Place { socket, control_key } = quoter.place();
    let mut open = Vec::new();
    for _ in 1..MAX_CONTROL_CONNECTIONS {
        open.push(within(QuoterControl::connect(&socket, &control_key)).await.unwrap());
    }
    let refused = within(QuoterControl::connect(&socket, &control_key)).await.map(drop).unwrap_err();
    assert!(matches!(&refused, QuoterError::Refused { code, .. } if code == "QUOTER_FULL"), "{refused}");
    within(open[0].root()).await.unwrap();
}

#[tokio::test]
async fn a_malformed_control_request_is_refused_and_the_connection_closed() {
    let quoter = Running::new().await;
    let key = std::fs::read(quoter.place().control_key).unwrap();
    let mut stream = from_std(quoter.connect()).unwrap();
    let shown = [b"serviceos/quoter/control/v1\0", key.as_slice()].concat();
    within(write_frame(&mut stream, &shown)).await.unwrap();
    within(read_frame(&mut stream)).await.unwrap();
    within(write_frame(&mut stream, &[9])).await.unwrap();
    assert_eq!(
        refusal_in(&rest_of(stream.into_std().unwrap()).await).as_deref(),
        Some("QUOTER_REQUEST_MALFORMED")
    );
}

#[tokio::test]
async fn it_outlives_whoever_started_it_and_stops_when_it_is_told_to() {
    let mut quoter = Running::new().await;
    let Place { socket, control_key } = quoter.place();
    let stream = quoter.register(this_process(), W).await;
    let (ours, _theirs) = StdUnixStream::pair().unwrap();
    drop(std::mem::replace(&mut quoter.control, QuoterControl::from_stream(ours).unwrap()));
    let control = within(QuoterControl::connect(&socket, &control_key)).await.unwrap();
    within(control.stop()).await.unwrap();
    within(&mut quoter.ended).await.unwrap().unwrap();
    assert!(!socket.exists() && !control_key.exists());
    let gone = within(QuoterSource::new(stream).unwrap().evidence([1; 64])).await.unwrap_err();
    assert!(gone.to_string().contains("the development quoter is gone"), "{gone}");
    assert!(matches!(within(control.root()).await, Err(QuoterError::Gone)));
}

fn parent(stream: StdUnixStream, takes_it_along: bool) -> Option<Parent> {
    Some(Parent { stream, takes_it_along })
}

#[tokio::test]
async fn it_ends_with_its_shutdown_and_another_takes_its_place() {
    let mut quoter = Running::new().await;
    let root = within(quoter.control.root()).await.unwrap();
    quoter.shutdown.take().unwrap().send(()).unwrap();
    within(&mut quoter.ended).await.unwrap().unwrap();
    let place = quoter.place();
    // What a crash leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&place.socket).unwrap());
    let again = Quoter::open(&quoter.folder.path().join("quoter"), unix_now()).unwrap();
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let started = place.clone();
    let running =
        tokio::spawn(
            async move { run(again, &started, parent(theirs, false), std::future::pending()).await },
        );
    let control = QuoterControl::from_stream(ours).unwrap();
    assert_eq!(within(control.root()).await.unwrap(), root);
    let named = within(QuoterControl::connect(&place.socket, &place.control_key)).await.unwrap();
    within(named.stop()).await.unwrap();
    within(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_ends_with_a_parent_that_takes_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let place = Place { socket: file("quoter.sock"), control_key: file("quoter.key") };
    let quoter = Quoter::open(&file("quoter"), unix_now()).unwrap();
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let started = place.clone();
    let running =
        tokio::spawn(
            async move { run(quoter, &started, parent(theirs, true), std::future::pending()).await },
        );
    let control = QuoterControl::from_stream(ours).unwrap();
    within(control.root()).await.unwrap();
    drop(control);
    within(running).await.unwrap().unwrap();
    assert!(!place.socket.exists());
}
