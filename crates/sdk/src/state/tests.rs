//! What a service can rely on, whatever happens to an answer.

use super::fake::FakeState;
use super::*;

fn create(key: &str, value: &str) -> StateWrite {
    StateWrite::Create { key: Bytes(key.into()), value: Bytes(value.into()) }
}

fn row(key: &str, value: &str, revision: u64) -> Row {
    Row { key: key.into(), value: value.into(), revision }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_known_by_what_it_left() {
    let fake = FakeState::new();
    let state = fake.state();
    fake.lose_answers(1);
    assert_eq!(state.put_if_absent(b"a", b"own").await, Ok(Put::Created(1)));
    fake.lose_answers(1);
    assert_eq!(state.put_if_absent(b"a", b"other").await, Ok(Put::Present(row("a", "own", 1))));
    fake.lose_answers(1);
    assert_eq!(state.compare_and_swap(b"a", 1, b"next").await, Ok(Swap::Done(2)));
    fake.lose_answers(1);
    assert_eq!(state.delete(b"a", 2).await, Ok(Swap::Done(0)));
    fake.lose_answers(1);
    let both = vec![create("a", "1"), create("b", "2")];
    assert_eq!(state.write(both.clone()).await, Ok(Written::Done(4)));
    let present = vec![row("a", "1", 4), row("b", "2", 4)];
    assert_eq!(state.write(both).await, Ok(Written::Conflict(present)), "no answer was lost");
}

#[tokio::test(start_paused = true)]
async fn answers_that_stay_away_are_given_up() {
    let fake = FakeState::new();
    let state = fake.state();
    let gone = StateError::Unavailable("the connection ended".into());
    fake.lose_answers(TRIES);
    assert_eq!(state.put_if_absent(b"a", b"1").await, Err(gone.clone()));
    assert_eq!(state.get(b"a").await, Ok(Some(row("a", "1", 1))), "it was done all the same");
    fake.lose_answers(TRIES);
    assert_eq!(state.get(b"a").await, Err(gone));
    fake.is_away(true);
    assert!(matches!(state.get(b"a").await, Err(StateError::Unavailable(_))));
    fake.is_away(false);
    fake.has_room_for(2);
    assert!(matches!(state.put_if_absent(b"b", b"1").await, Err(StateError::Full(_))));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_ends_in_time() {
    struct Silent;
    impl Keeper for Silent {
        fn read(&self, _request: StateReadRequest) -> Asked<'_, StateReadAnswer> {
            Box::pin(std::future::pending())
        }
        fn range(&self, _request: StateRangeRequest) -> Asked<'_, StateRangeAnswer> {
            Box::pin(std::future::pending())
        }
        fn write(&self, _request: StateWriteRequest) -> Asked<'_, Answered> {
            Box::pin(std::future::pending())
        }
        fn usage(&self) -> Asked<'_, StateUsage> {
            Box::pin(std::future::pending())
        }
    }
    let state = State::of(Silent);
    let late = StateError::Unavailable("no answer within 5 s".into());
    assert_eq!(state.get(b"a").await, Err(late.clone()));
    assert_eq!(state.put_if_absent(b"a", b"1").await, Err(late));
}

#[tokio::test]
async fn many_rows_are_read_in_as_many_questions_as_it_takes() {
    let state = FakeState::new().state();
    let keys: Vec<_> = (0..150).map(|row| format!("{row:03}")).collect();
    for some in keys.chunks(50) {
        let writes = some.iter().map(|key| create(key, key)).collect();
        assert!(matches!(state.write(writes).await, Ok(Written::Done(_))));
    }
    let read = state.get_all(&keys).await.unwrap();
    assert!(read.into_iter().zip(&keys).all(|(row, key)| row.unwrap().value == key.as_bytes()));
    let page = state.range(b"1", b"102", 3).await.unwrap();
    let found: Vec<_> = page.rows.iter().map(|row| String::from_utf8_lossy(&row.key)).collect();
    assert_eq!((found, page.more), (vec!["103".into(), "104".into(), "105".into()], true));
}
