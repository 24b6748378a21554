//! The rows of revisions, without anything that goes by them.

use configuration::meaning;

use super::*;

fn candidate(replicas: u64, origin: Origin) -> Candidate {
    let text = format!("services: {{vrf: {{replicas: {replicas}}}}}");
    Candidate { meaning: meaning(&text, "test").unwrap(), text, origin, author: "test" }
}

/// Revisions as a start finds them; the first was made by the file.
async fn begun(store: &Store) -> Revisions {
    let Candidate { text, meaning, .. } = candidate(0, Origin::File);
    let mut revisions = Revisions {
        store: store.clone(),
        keys: Keys::of("n1"),
        head: Head { format: rows::FORMAT, next: 1, in_force: 0, file: 0 },
        head_row: None,
        kept: BTreeSet::new(),
        in_force: watch::Sender::new(Arc::new(InForce { record: Record::before_the_first(), text, meaning })),
        file: None,
    };
    make(&mut revisions, candidate(0, Origin::File)).await.unwrap();
    revisions
}

/// All of a commit but the audit trail.
async fn written(revisions: &mut Revisions, candidate: Candidate) -> Result<Committed, ConfigRefused> {
    let changes = revisions.differences(&candidate.meaning);
    let record = revisions.record(&candidate, &changes);
    let before = revisions.add(&record, &candidate).await?;
    let entry = entry(&record, &changes);
    let Candidate { text, meaning, .. } = candidate;
    Ok(Committed { in_force: InForce { record, text, meaning }, before, entry })
}

async fn make(revisions: &mut Revisions, candidate: Candidate) -> Result<u64, ConfigRefused> {
    let committed = written(revisions, candidate).await?;
    revisions.put_in_force(committed);
    Ok(revisions.in_force().record.revision)
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("store.redb")).unwrap()
}

#[tokio::test]
async fn the_last_thousand_are_kept_and_the_one_that_the_file_meant() {
    let folder = tempfile::tempdir().unwrap();
    let mut revisions = begun(&store(&folder)).await;
    // As if so many had been made, without writing all of them.
    revisions.kept.extend(2..=999);
    revisions.head.next = 1000;
    for replicas in 1..=3 {
        make(&mut revisions, candidate(replicas, Origin::Cli)).await.unwrap();
    }
    assert_eq!(revisions.kept.len(), KEPT_REVISIONS);
    let kept = [1, 2, 3, 4, 1002].map(|number| revisions.kept.contains(&number));
    assert_eq!(kept, [true, false, false, true, true]);
    let committed = written(&mut revisions, candidate(9, Origin::File)).await.unwrap();
    revisions.take_out(committed).await;
    assert_eq!(
        revisions.history().text(1).await.unwrap(),
        "services: {vrf: {replicas: 0}}",
        "a start reads it"
    );
    assert_eq!(make(&mut revisions, candidate(9, Origin::File)).await.unwrap(), 1004);
    assert_eq!(make(&mut revisions, candidate(8, Origin::Cli)).await.unwrap(), 1005);
    assert!(!revisions.kept.contains(&1), "the file means something else now");
    let history = revisions.history();
    assert!(matches!(history.revision(1).await, Err(ConfigRefused::Unknown(1))));
    let newest = history.revision(1005).await.unwrap();
    assert_eq!(newest.text.as_deref(), Some("services: {vrf: {replicas: 8}}"));
    assert_eq!(newest.changes, ["services.vrf.replicas: 9 -> 8"]);
    let listed: Vec<_> = history.list().await.unwrap().iter().map(|listed| listed.revision).collect();
    assert_eq!(listed, [1005, 1004, 1002, 1001, 1000]);
}

#[tokio::test]
async fn of_two_that_take_the_same_number_one_is_told_that_another_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let mut one = begun(&store).await;
    let mut two = Revisions {
        store: store.clone(),
        keys: one.keys.clone(),
        head: one.head.clone(),
        head_row: one.head_row,
        kept: one.kept.clone(),
        in_force: watch::Sender::new(one.in_force()),
        file: None,
    };
    assert_eq!(make(&mut one, candidate(1, Origin::Cli)).await.unwrap(), 2);
    let refused = make(&mut two, candidate(2, Origin::Cli)).await;
    assert!(matches!(refused, Err(ConfigRefused::Conflict { in_force: 2 })), "{refused:?}");
    assert_eq!(two.in_force().record.revision, 1, "nothing has changed");
    assert_eq!(make(&mut two, candidate(2, Origin::Cli)).await.unwrap(), 3);
}

#[tokio::test]
async fn the_number_of_a_revision_that_was_taken_back_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut revisions = begun(&store(&folder)).await;
    let committed = written(&mut revisions, candidate(1, Origin::File)).await.unwrap();
    revisions.take_out(committed).await;
    assert_eq!((revisions.head.in_force, revisions.head.file), (1, 1));
    assert!(matches!(revisions.history().revision(2).await, Err(ConfigRefused::Unknown(2))));
    assert_eq!(make(&mut revisions, candidate(1, Origin::File)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_file_that_has_caught_up_with_the_command_line_replaces_it_when_it_changes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut revisions = begun(&store(&folder)).await;
    let (file, asked) = (candidate(0, Origin::File).meaning, candidate(1, Origin::Cli));
    make(&mut revisions, asked.clone()).await.unwrap();
    assert_eq!(revisions.file_means(&file), FileMeans::TheSame);
    assert_eq!(revisions.file_means(&asked.meaning), FileMeans::WhatIsInForce);
    revisions.file_has_caught_up().await.unwrap();
    assert_eq!((revisions.head.file, revisions.head.next), (2, 3), "no revision is made");
    assert_eq!(revisions.file_means(&file), FileMeans::Another);
}

#[test]
fn of_a_long_diff_as_much_is_told_as_the_audit_trail_takes() {
    let line = |number| Difference { key: format!("services.s{number}.version"), before: None, after: None };
    let changes: Vec<_> = (0..1_000).map(line).collect();
    let (lines, more) = told(&changes);
    assert!(lines.iter().map(String::len).sum::<usize>() <= MAX_TOLD_BYTES && !lines.is_empty());
    assert_eq!(lines.len() + more, 1_000);
}

#[tokio::test]
async fn what_a_node_keeps_is_not_among_what_every_node_reads_and_watches() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    begun(&store).await;
    assert!(!store.range(Keys::of("n1").records()).await.unwrap().rows.is_empty());
    assert_eq!(store.range(service_registry::PRESENT).await.unwrap().rows, []);
}
