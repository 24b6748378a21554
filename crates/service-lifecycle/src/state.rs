//! The state machine of a replica's life: pure, so that every pair of state and event can be tested.

use service_registry::LifecycleState;
use thiserror::Error;

/// What can happen to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its process is about to be launched.
    Launch,
    /// It passed its first health check.
    Ready,
    /// It could not start: a refusal, an exit, the start timeout, or an order to stop before it was ready.
    Failed,
    /// It is told to finish.
    Drain,
    /// It finished and its process ended.
    Done,
    /// Its process ended by itself.
    Lost,
}

/// An event that cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{event:?} cannot happen to a replica that is {state}")]
pub struct Denied {
    /// The state.
    pub state: LifecycleState,
    /// The event.
    pub event: Event,
}

/// The next state.
///
/// # Errors
/// [`Denied`] when the event cannot happen in this state; the state stays as it is.
pub fn transition(state: LifecycleState, event: Event) -> Result<LifecycleState, Denied> {
    use LifecycleState::{Draining, Ready, Starting, Stopped};
    match (state, event) {
        (Stopped, Event::Launch) => Ok(Starting),
        (Starting, Event::Ready) => Ok(Ready),
        (Starting, Event::Failed) => Ok(Stopped),
        (Ready, Event::Drain) => Ok(Draining),
        (Ready | Draining, Event::Lost) | (Draining, Event::Done) => Ok(Stopped),
        (
            state,
            event @ (Event::Launch | Event::Ready | Event::Failed | Event::Drain | Event::Done | Event::Lost),
        ) => Err(Denied { state, event }),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn every_pair_of_state_and_event_leads_where_the_drawing_says() {
        let events = [Event::Launch, Event::Ready, Event::Failed, Event::Drain, Event::Done, Event::Lost];
        let mut table = String::new();
        for state in LifecycleState::ALL {
            for event in events {
                match transition(state, event) {
                    Ok(next) => table += &format!("{state} --{event:?}--> {next}\n"),
                    Err(denied) => assert_eq!(denied, Denied { state, event }),
                }
            }
        }
        expect![[r#"
            Starting --Ready--> Ready
            Starting --Failed--> Stopped
            Ready --Drain--> Draining
            Ready --Lost--> Stopped
            Draining --Done--> Stopped
            Draining --Lost--> Stopped
            Stopped --Launch--> Starting
        "#]]
        .assert_eq(&table);
    }
}
