use super::*;
use crate::peak_ewma::PeakEwma;
use std::hint::black_box;
use std::rc::Rc;

struct Ep {
    tried: Cell<bool>,
    lat: PeakEwma,
    pending: Cell<u32>,
    _pad: [u64; 16],
}
struct V<'a> {
    eps: &'a [Rc<Ep>],
    now: Instant,
}
impl Loads for V<'_> {
    fn eligible(&self, i: usize) -> bool {
        !self.eps[i].tried.get()
    }
    fn load(&self, i: usize) -> f64 {
        self.eps[i].lat.estimate(self.now) * f64::from(self.eps[i].pending.get() + 1)
    }
    fn pending(&self, i: usize) -> u32 {
        self.eps[i].pending.get()
    }
}
#[test]
fn zbench() {
    let start = Instant::now();
    for policy in POLICIES {
        for n in [3usize, 1000] {
            for weighted in [false, true] {
                for slow in [false, true] {
                    let weights: Vec<u32> =
                        (0..n).map(|i| if weighted { 1 + i as u32 % 3 } else { 1 }).collect();
                    let mut t = targets(&weights, start);
                    if slow {
                        t[0].since = start + Duration::from_secs(50);
                    }
                    let s = Settings {
                        slow_start: if slow { Duration::from_secs(60) } else { Duration::ZERO },
                        ..settings(policy)
                    };
                    let b0 = Instant::now();
                    let b = Balancer::new(&s, &t, None);
                    let build = b0.elapsed();
                    let eps: Vec<Rc<Ep>> = (0..n)
                        .map(|i| {
                            Rc::new(Ep {
                                tried: Cell::new(false),
                                lat: PeakEwma::new(Duration::from_micros(1000 + i as u64), start),
                                pending: Cell::new(i as u32 % 2),
                                _pad: [0; 16],
                            })
                        })
                        .collect();
                    let mut random = fastrand::Rng::with_seed(1);
                    let rounds =
                        if n == 1000 && policy == Policy::RoundRobin { 20_000u64 } else { 3_000_000 };
                    let mut best = f64::MAX;
                    for _ in 0..5 {
                        let t0 = Instant::now();
                        for i in 0..rounds {
                            let now = start + Duration::from_secs(60) + Duration::from_nanos(i * 1000);
                            let v = V { eps: &eps, now };
                            black_box(b.pick(
                                black_box(&v),
                                &Request { hash: Some(i), ..Request::default() },
                                &mut random,
                                now,
                            ));
                        }
                        best = best.min(t0.elapsed().as_nanos() as f64 / rounds as f64);
                    }
                    println!(
                        "{policy:?} n={n} weighted={weighted} slow={slow}: {best:.1} ns, build {build:?}"
                    );
                }
            }
        }
    }
    let e = PeakEwma::new(Duration::from_millis(3), start);
    let t0 = Instant::now();
    let mut x = 0.0;
    for i in 0..10_000_000u64 {
        x += e.estimate(black_box(start + Duration::from_nanos(i * 1000)));
    }
    println!("estimate {:.2} ns {x}", t0.elapsed().as_nanos() as f64 / 1e7);
    let t0 = Instant::now();
    let mut x = 0.0;
    for i in 0..10_000_000u64 {
        let now = black_box(start + Duration::from_nanos(i * 1000));
        x += 0.003 * (-now.saturating_duration_since(start).as_secs_f64() / 10.0).exp();
    }
    println!("with exp {:.2} ns {x}", t0.elapsed().as_nanos() as f64 / 1e7);
    let t0 = Instant::now();
    let mut x = 0u64;
    for i in 0..10_000_000u64 {
        let now = black_box(start + Duration::from_secs(60) + Duration::from_nanos(i * 1000));
        x += u64::from(now > start);
    }
    println!("loop alone {:.2} ns {x}", t0.elapsed().as_nanos() as f64 / 1e7);
}
