//! The power fails at any write or confirmation, and sectors of what was in memory alone reach the disk or do not: what was
//! acknowledged is there, and nothing is there by half.

use super::disk::OnDisk;
use super::*;

const ROUNDS: u64 = 120;
const WRITERS: usize = 4;
const STEPS: u8 = 12;

/// Of each writer, the last step that was acknowledged, and the last that was begun.
type Progressed = [(u8, u8); WRITERS];

fn transaction(writer: usize, step: u8, bytes: usize) -> Transaction {
    let value = [&[step], vec![step; bytes].as_slice()].concat();
    Transaction::new().put(format!("a/{writer}"), value.clone()).put(format!("z/{writer}"), value)
}

/// Writes with all writers at once until the disk fails.
async fn write(store: &Store, rng: &mut fastrand::Rng) -> Progressed {
    let mut progressed = Progressed::default();
    for step in 1..=STEPS {
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, transaction) = (store.clone(), transaction(writer, step, rng.usize(..9_000)));
                tokio::spawn(async move { store.commit(transaction).await })
            })
            .collect();
        let mut is_well = true;
        for (writer, task) in tasks.into_iter().enumerate() {
            let outcome = task.await.unwrap();
            progressed[writer].1 = step;
            match outcome {
                Ok(_) => progressed[writer].0 = step,
                Err(StoreError::Unconfirmed { .. }) => is_well = false,
                Err(other) => panic!("{other}"),
            }
        }
        if !is_well {
            break;
        }
    }
    progressed
}

async fn assert_kept(store: &Store, progressed: &Progressed) {
    for (writer, (acknowledged, begun)) in progressed.iter().enumerate() {
        let row = |letter| store.get(format!("{letter}/{writer}"));
        let (a, z) = (row('a').await.unwrap(), row('z').await.unwrap());
        let of = |row: &Option<KeyValue>| row.as_ref().map(|row| (row.mod_revision, row.value.clone()));
        assert_eq!(of(&a), of(&z), "a transaction is there by half");
        let found = a.map_or(0, |row| row.value[0]);
        assert!((*acknowledged..=*begun).contains(&found), "{found}, and {acknowledged} was acknowledged");
    }
}

#[tokio::test]
async fn whenever_the_power_fails_what_was_acknowledged_is_there() {
    let mut interrupted = 0;
    for seed in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let on_disk = OnDisk::new();
        let (store, shared) = on_disk.open().unwrap();
        on_disk.disk.loses_power_after(rng.u32(..150));
        let progressed = write(&store, &mut rng).await;
        drop((store, shared));
        interrupted += u32::from(progressed.iter().any(|(acknowledged, begun)| acknowledged < begun));
        on_disk.disk.has_power_again(&on_disk.path(), &mut rng);

        // The first start after that may be interrupted as well.
        on_disk.disk.loses_power_after(rng.u32(..60));
        if let Ok((store, _)) = on_disk.open() {
            assert_kept(&store, &progressed).await;
        }
        on_disk.disk.has_power_again(&on_disk.path(), &mut rng);

        let (store, shared) = on_disk.open().unwrap();
        assert_kept(&store, &progressed).await;
        assert_whole(&shared);
        committed(&store, transaction(0, STEPS + 1, 10)).await;
        assert_whole(&shared);
    }
    assert!(interrupted > 20, "{interrupted}");
}
