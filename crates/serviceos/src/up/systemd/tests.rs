use super::*;

/// A manager, and what it is told from now on.
fn managed(name: &str) -> (Manager, impl FnMut() -> String + use<>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let (listening, name) = match name {
        "path" => (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
        name => {
            let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
            (UnixDatagram::bind_addr(&address).unwrap(), name.to_owned())
        }
    };
    listening.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // At once, since the kernel keeps few messages.
    let (heard, messages) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok(length) = listening.recv(&mut message) {
            if heard.send(String::from_utf8(message[..length].to_vec()).unwrap()).is_err() {
                return;
            }
        }
    });
    let manager = Manager::with(Some(Notified::open(&name).unwrap()), None);
    let next = move || {
        let _kept = &folder;
        messages.recv_timeout(Duration::from_secs(10)).unwrap()
    };
    (manager, next)
}

#[test]
fn each_state_is_told_once_and_in_its_order_alone() {
    let (manager, mut next) = managed("path");
    manager.reloading();
    manager.reloaded();
    manager.ready();
    assert_eq!(next(), "READY=1", "a look at the file during the start is nobody's business");
    manager.ready();
    manager.reloading();
    manager.reloading();
    let before = monotonic_microseconds();
    let reloading = next();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!((before - 10_000_000..=before).contains(&at.parse().unwrap()), "{at}");
    manager.reloading_as_asked();
    assert!(next() >= reloading, "told again, and not with the time before");
    manager.reloaded();
    manager.reloaded();
    assert_eq!(next(), "READY=1");
    manager.main_process(17);
    assert_eq!(next(), "MAINPID=17");
    manager.stopping(None);
    manager.stopping(None);
    manager.reloading();
    manager.ready();
    assert_eq!((next(), next()), ("STOPPING=1".into(), "EXTEND_TIMEOUT_USEC=20000000".into()));
    manager.main_process(18);
    assert_eq!(next(), "MAINPID=18", "nothing else was told");
}

#[test]
fn a_name_in_no_folder_is_reached_and_others_are_refused() {
    let (manager, mut next) = managed(&format!("@serviceos/test/{}", std::process::id()));
    manager.ready();
    assert_eq!(next(), "READY=1");
    for name in ["vsock:2:9999", "notify", ""] {
        let refused = Notified::open(name).err().unwrap();
        assert!(refused.to_string().contains("neither a path"), "{name}: {refused}");
    }
    let nobody = Manager::with(Some(Notified::open("/nobody/listens").unwrap()), None);
    nobody.ready();
    assert!(nobody.state().failing);
}

#[test]
fn what_was_not_taken_is_told_again_with_the_next_word_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("notify");
    let manager = Manager::with(Some(Notified::open(name.to_str().unwrap()).unwrap()), None);
    manager.ready();
    manager.reloading();
    manager.reloaded();
    let listening = UnixDatagram::bind(&name).unwrap();
    listening.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = || {
        let mut message = [0; 512];
        let length = listening.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    manager.main_process(17);
    manager.main_process(18);
    assert_eq!([next(), next(), next()], ["MAINPID=17", "READY=1", "MAINPID=18"]);
}

#[test]
fn a_watchdog_of_another_process_or_of_no_time_is_none() {
    let own = std::process::id().to_string();
    let told = |time, pid| watchdog(Some(time), pid);
    assert_eq!(told("3000000", Some(&*own)), Some(Duration::from_secs(3)));
    assert_eq!(told("3000000", None), Some(Duration::from_secs(3)));
    assert_eq!([told("3000000", Some("1")), told("0", None), told("x", None)], [None; 3]);
    assert_eq!(watchdog(None, Some(&*own)), None);
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_come_twice_in_the_time_and_more_time_is_asked_for_while_a_drain_may_go_on() {
    let (manager, mut next) = managed("path");
    manager.0.watchdog.set(Duration::from_secs(12)).unwrap();
    let tasks = manager.begin();
    // One at once, and one at each 6 seconds.
    for _ in 0..3 {
        sleep(Duration::from_secs(6)).await;
    }
    manager.ready();
    let told: Vec<_> = std::iter::from_fn(|| Some(next())).take_while(|told| told != "READY=1").collect();
    assert_eq!(told.len(), told.iter().filter(|told| *told == "WATCHDOG=1").count());
    assert!((3..=4).contains(&told.len()), "{told:?}");
    manager.stopping(None);
    sleep(LAST_STEPS * 2).await;
    drop(tasks);
    manager.main_process(1);
    let told: Vec<_> = std::iter::from_fn(|| Some(next())).take_while(|told| told != "MAINPID=1").collect();
    let extensions = told.iter().filter(|told| told.starts_with("EXTEND_TIMEOUT_USEC=")).count();
    assert!((5..=7).contains(&extensions), "for {LAST_STEPS:?} and no longer: {told:?}");
    assert!(told.iter().filter(|told| *told == "WATCHDOG=1").count() >= 9, "{told:?}");
}
