use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use access::{Allowance, Limit, Rate, Tier, Tiers};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use testkit::{Authority, Redis};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::*;

/// What one thread of a gateway does.
pub(crate) fn local<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { timeout(testkit::LIMIT, work).await.expect("it is over in time") })
}

pub(crate) fn server(redis: &Redis) -> Server {
    server_with(redis, None)
}

fn server_with(redis: &Redis, login: Option<Login>) -> Server {
    let address = redis.address();
    Server::new(address.ip().to_string(), address.port(), 0, login, None).unwrap()
}

fn shared(server: Server) -> Arc<SharedLimits> {
    Arc::new(SharedLimits::new(server, "t", OnFailure::CountHere))
}

async fn begun(shared: &Arc<SharedLimits>) -> Link {
    let link = Link::begin(Arc::clone(shared));
    link.begun().await;
    link
}

fn limit(count: u32, seconds: u64, burst: u32) -> Limit {
    Limit::new(Rate { count, per: Duration::from_secs(seconds) }, burst)
}

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Asks until it is answered again.
async fn until_answered(link: &Link) {
    while link.take_address(ADDRESS, &limit(1_000, 1, 1_000)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn eight_clients_over_two_gateways_get_the_burst_and_the_rate_and_not_one_more() {
    let Some(redis) = Redis::start() else { return };
    let (window, limit) = (Duration::from_millis(700), limit(100, 1, 20));
    let gateways = [shared(server(&redis)), shared(server(&redis))];
    let client = |number: usize, began: Instant| {
        local(async {
            let link = begun(&gateways[number % 2]).await;
            let mut admitted = 0;
            while began.elapsed() < window {
                admitted += u32::from(link.take_address(ADDRESS, &limit).await.unwrap().is_ok());
            }
            admitted
        })
    };
    let began = Instant::now();
    let admitted: u32 = std::thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..8).map(|number| scope.spawn(move || client(number, began))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let most = 20 + u32::try_from(began.elapsed().as_millis() / 10).unwrap() + 1;
    assert!((80..=most).contains(&admitted), "{admitted}, and at most {most} are allowed");
}

#[test]
fn a_caller_is_counted_by_the_day_the_route_and_its_rate_wherever_it_calls() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let (one, other) = (shared(server(&redis)), shared(server(&redis)));
        let (one, other) = (begun(&one).await, begun(&other).await);
        let tier = Tier { limit: limit(60, 60, 10), daily: Some(4) };
        let allowance = Allowance::new("key:a", "t", &Tiers::with([("t".to_owned(), tier)].into()));
        let route = limit(1, 60, 3);
        let first = one.admit(Some(&allowance), Some(("vrf /a", &route))).await.unwrap().unwrap();
        assert_eq!((first.rate.unwrap().remaining, first.daily.unwrap().remaining), (9, 3));
        let second = other.admit(Some(&allowance), Some(("vrf /a", &route))).await.unwrap().unwrap();
        assert_eq!((second.route.unwrap().remaining, second.daily.unwrap().remaining), (1, 2));
        assert!(one.admit(None, Some(("vrf /a", &route))).await.unwrap().is_ok());
        let refused = other.admit(Some(&allowance), Some(("vrf /a", &route))).await.unwrap().unwrap_err();
        assert_eq!(refused.0, access::Exceeded::Route);
        let left = other.left(&allowance).await.unwrap();
        assert_eq!((left.daily.unwrap().remaining, left.route), (2, None), "a refusal has counted nothing");
        for remaining in [1, 0] {
            let left = one.admit(Some(&allowance), None).await.unwrap().unwrap();
            assert_eq!(left.daily.unwrap().remaining, remaining);
        }
        let refused = other.admit(Some(&allowance), None).await.unwrap().unwrap_err();
        assert_eq!(refused.0, access::Exceeded::Daily);
        assert_eq!(allowance.daily().unwrap().left(0).remaining, 4, "nothing is counted here");
    });
}

#[test]
fn a_nonce_is_new_once_at_all_gateways_together() {
    let Some(mut redis) = Redis::start() else { return };
    local(async {
        let (one, other) = (shared(server(&redis)), shared(server(&redis)));
        let (one, other) = (begun(&one).await, begun(&other).await);
        let minute = Duration::from_secs(60);
        assert_eq!(one.first_use(b"a", minute).await, Ok(true));
        assert_eq!(other.first_use(b"a", minute).await, Ok(false));
        assert_eq!(other.first_use(b"b", Duration::from_millis(1)).await, Ok(true));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(one.first_use(b"b", minute).await, Ok(true), "it was forgotten in time");
        redis.kill();
        assert_eq!(one.first_use(b"c", minute).await, Err(Uncounted::Unavailable));
    });
}

#[test]
fn whoever_asks_while_there_is_no_redis_is_told_so_at_once_and_it_is_found_again() {
    let Some(mut redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        until_answered(&link).await;
        redis.kill();
        while link.take_address(ADDRESS, &limit(1, 1, 1)).await.is_ok() {}
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(link.take_address(ADDRESS, &limit(1, 1, 1)).await, Err(Uncounted::Unavailable));
        }
        assert!(began.elapsed() < ANSWER_LIMIT, "{:?} for a thousand", began.elapsed());
        redis.restart();
        until_answered(&link).await;
    });
}

#[test]
fn of_a_redis_that_hangs_one_answer_is_waited_for_and_no_other() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        until_answered(&link).await;
        redis.pause();
        let began = Instant::now();
        assert_eq!(link.take_address(ADDRESS, &limit(1, 1, 1)).await, Err(Uncounted::Unavailable));
        assert!(began.elapsed() >= ANSWER_LIMIT, "{:?}", began.elapsed());
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(link.take_address(ADDRESS, &limit(1, 1, 1)).await, Err(Uncounted::Unavailable));
        }
        assert!(began.elapsed() < ANSWER_LIMIT, "{:?} for a thousand", began.elapsed());
        redis.resume();
        until_answered(&link).await;
    });
}

/// Stands before Redis, and passes its answers on line by line, as many as it may.
struct Relay {
    address: SocketAddr,
    lines: Rc<Semaphore>,
    connections: Rc<Cell<usize>>,
    _task: JoinSet<()>,
}

impl Relay {
    /// More lines than any test has.
    const ALL: usize = 1 << 20;
    /// What the count by one limit is answered with.
    const LINES_OF_AN_ANSWER: usize = 4;

    async fn begin(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lines, connections) = (Rc::new(Semaphore::new(Self::ALL)), Rc::new(Cell::new(0)));
        let (passing, counting, mut task) = (Rc::clone(&lines), Rc::clone(&connections), JoinSet::new());
        task.spawn_local(async move {
            let mut open = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counting.set(counting.get() + 1);
                let lines = Rc::clone(&passing);
                open.spawn_local(async move {
                    let _ended = Self::relay(client, redis, &lines).await;
                });
            }
        });
        Self { address, lines, connections, _task: task }
    }

    async fn relay(mut client: TcpStream, redis: SocketAddr, lines: &Semaphore) -> std::io::Result<()> {
        let mut redis = TcpStream::connect(redis).await?;
        client.set_nodelay(true)?;
        let ((mut asks, mut answers), (redis_answers, mut redis_asks)) = (client.split(), redis.split());
        let down = async {
            let (mut redis_answers, mut line) = (BufReader::new(redis_answers), Vec::new());
            while redis_answers.read_until(b'\n', &mut line).await? > 0 {
                lines.acquire().await.unwrap().forget();
                answers.write_all(&line).await?;
                line.clear();
            }
            Ok(())
        };
        tokio::select! {
            _ended = tokio::io::copy(&mut asks, &mut redis_asks) => Ok(()),
            ended = down => ended,
        }
    }

    fn hold(&self) {
        self.lines.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn pass_one(&self) {
        self.lines.add_permits(Self::LINES_OF_AN_ANSWER);
    }

    fn pass_all(&self) {
        self.lines.add_permits(Self::ALL);
    }
}

/// Ten ask at the same time, and one answer after the other comes until all know; how many were answered, how many connections
/// it took, and the longest pause between two answers.
async fn ten_answers_in_a_row(relay: &Relay, link: &Rc<Link>, each: Duration) -> (usize, usize, Duration) {
    let (before, mut asking) = (relay.connections.get(), JoinSet::new());
    relay.hold();
    for _ in 0..10 {
        let link = Rc::clone(link);
        asking.spawn_local(async move { link.take_address(ADDRESS, &limit(1_000, 1, 1_000)).await.is_ok() });
    }
    let (mut last, mut longest, mut answered) = (Instant::now(), Duration::ZERO, 0);
    while !asking.is_empty() {
        let next = last + each;
        while let Ok(Some(asked)) = timeout_at(next, asking.join_next()).await {
            answered += usize::from(asked.unwrap());
        }
        longest = longest.max(last.elapsed());
        last = Instant::now();
        relay.pass_one();
    }
    relay.pass_all();
    until_answered(link).await;
    (answered, relay.connections.get() - before, longest)
}

#[test]
fn an_answer_that_is_late_among_others_is_late_alone_and_ends_no_connection() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let relay = Relay::begin(redis.address()).await;
        let at = Server::new(relay.address.ip().to_string(), relay.address.port(), 0, None, None).unwrap();
        let link = Rc::new(begun(&shared(at)).await);
        until_answered(&link).await;
        let answered = loop {
            let (answered, connections, longest) =
                ten_answers_in_a_row(&relay, &link, ANSWER_LIMIT / 4).await;
            // A machine that is held up for as long as that shows nothing.
            if longest < ANSWER_LIMIT * 3 / 4 {
                assert_eq!(connections, 0, "it is the one from before");
                break answered;
            }
        };
        assert!((1..10).contains(&answered), "{answered} were in time");
        let (answered, connections, _) = ten_answers_in_a_row(&relay, &link, ANSWER_LIMIT * 3 / 2).await;
        assert_eq!(answered, 0, "nobody was answered in time");
        assert!(connections > 0, "which ends a connection");
    });
}

#[test]
fn a_thread_that_was_held_up_itself_takes_what_has_come_meanwhile() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        let limit = limit(60, 60, 2);
        let mut asked = Box::pin(link.take_address(ADDRESS, &limit));
        // It is sent in the next turn, and answered while nothing moves here.
        let held_up = async {
            tokio::task::yield_now().await;
            std::thread::sleep(2 * ANSWER_LIMIT);
        };
        tokio::select! {
            biased;
            _ = &mut asked => panic!("nobody has read an answer"),
            () = held_up => {}
        }
        assert!(asked.await.unwrap().is_ok());
    });
}

#[test]
fn scripts_that_were_forgotten_are_loaded_again_by_the_request_that_needs_one() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        for forgotten in [&["SCRIPT", "FLUSH"][..], &["FLUSHALL"]] {
            assert_eq!(redis.ask(forgotten), "OK");
            assert!(link.take_address(ADDRESS, &limit(60, 60, 2)).await.unwrap().is_ok(), "{forgotten:?}");
        }
        let left = link.take_address(ADDRESS, &limit(60, 60, 2)).await.unwrap().unwrap();
        assert_eq!(left.remaining, 0, "the second one was after everything was forgotten");
    });
}

#[test]
fn no_more_requests_wait_than_may() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        redis.pause();
        let limit = limit(1, 1, 1);
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| Box::pin(link.take_address(ADDRESS, &limit))).collect();
        let poll_all = async {
            for asked in &mut waiting {
                tokio::select! {
                    biased;
                    _ = asked => panic!("nobody answers"),
                    () = std::future::ready(()) => {}
                }
            }
        };
        poll_all.await;
        let began = Instant::now();
        assert_eq!(link.take_address(ADDRESS, &limit).await, Err(Uncounted::Overloaded), "it may be well");
        assert!(began.elapsed() < ANSWER_LIMIT);
        drop(waiting);
        redis.resume();
        assert!(link.take_address(ADDRESS, &limit).await.is_ok(), "who gave up does not wait any more");
    });
}

#[test]
fn a_password_is_needed_where_there_is_one_and_another_one_is_none() {
    let Some(redis) = Redis::start_with(&["--requirepass", "secret"]) else { return };
    let login = |user: Option<&str>, password: &str| {
        let user = user.map(str::to_owned);
        Some(Login { user, password: Zeroizing::new(password.to_owned()) })
    };
    // What the manual says that a user needs.
    let user = "ACL SETUSER gateway on >secret ~serviceos:* +evalsha +script|load +get +set +time";
    let manual = include_str!("../../../docs/operations.md");
    assert!(manual.contains(&user.replace("secret", "PASSWORD")));
    redis.ask_as("secret", &user.split(' ').collect::<Vec<_>>());
    local(async {
        for (login, answers) in [
            (login(Some("gateway"), "secret"), true),
            (login(None, "secret"), true),
            (login(Some("default"), "secret"), true),
            (login(None, "other"), false),
            (login(Some("nobody"), "secret"), false),
            (None, false),
        ] {
            let link = begun(&shared(server_with(&redis, login))).await;
            assert_eq!(link.take_address(ADDRESS, &limit(60, 1, 60)).await.is_ok(), answers);
        }
    });
}

#[test]
fn tls_is_for_servers_and_clients_of_the_authority_alone() {
    let authority = Authority::new("redis");
    let Some(redis) = Redis::start_secured(&authority) else { return };
    let server = |authority: &Authority, own: bool| {
        let (at, mut roots) = (redis.secure_address(), RootCertStore::empty());
        roots.add(CertificateDer::from(authority.der().to_vec())).unwrap();
        let own = own.then(|| authority.certificate(&["client"]));
        let client = own.map(|own| (vec![CertificateDer::from(own.der().to_vec())], own.key()));
        Server::new(at.ip().to_string(), at.port(), 3, None, Some(Tls { roots, client })).unwrap()
    };
    local(async {
        let other = Authority::new("another");
        for (server, answers) in [
            (server(&authority, true), true),
            (server(&authority, false), false),
            (server(&other, true), false),
        ] {
            let link = begun(&shared(server)).await;
            assert_eq!(link.take_address(ADDRESS, &limit(60, 1, 60)).await.is_ok(), answers);
        }
    });
}

/// Prints what counting costs: `cargo test --release -p shared-limits -- --nocapture round_trip`.
#[test]
fn what_it_costs_is_a_round_trip() {
    let Some(redis) = Redis::start() else { return };
    local(async {
        let link = begun(&shared(server(&redis))).await;
        let tier = Tier { limit: limit(1_000_000, 1, 1_000_000), daily: Some(1_000_000) };
        let allowance = Allowance::new("key:a", "t", &Tiers::with([("t".to_owned(), tier)].into()));
        let began = Instant::now();
        for _ in 0..2_000 {
            link.admit(Some(&allowance), Some(("a", &limit(1_000_000, 1, 1_000_000))))
                .await
                .unwrap()
                .unwrap();
        }
        println!("three limits: {:?} each", began.elapsed() / 2_000);
        let began = Instant::now();
        for _ in 0..2_000 {
            link.take_address(ADDRESS, &limit(1_000_000, 1, 1_000_000)).await.unwrap().unwrap();
        }
        println!("an address: {:?} each", began.elapsed() / 2_000);
        let (link, mut clients, began) = (Rc::new(link), JoinSet::new(), Instant::now());
        for _ in 0..50 {
            let link = Rc::clone(&link);
            clients.spawn_local(async move {
                for _ in 0..100 {
                    link.take_address(ADDRESS, &limit(1_000_000, 1, 1_000_000)).await.unwrap().unwrap();
                }
            });
        }
        assert!(clients.join_all().await.len() == 50);
        println!("an address, by 50 at the same time: {:?} each", began.elapsed() / 5_000);
    });
}
