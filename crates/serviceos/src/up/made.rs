//! What is made of files that the configuration names. It is kept while neither the settings nor the files are others, and once it is
//! in force also where they are, and cannot be used.

use std::sync::Arc;

use super::unusable::Unusable;

/// Whether what is in force may stay in the place of what cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Refuses,
    Stays,
}

/// What was made, and of which settings; nothing before the first time, and where there are none.
pub(super) struct Made<S, T> {
    known: Option<(S, Arc<T>)>,
    files: Files,
}

/// Whether the files are those that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Same,
    Changed,
}

impl<S, T> Default for Made<S, T> {
    fn default() -> Self {
        Self { known: None, files: Files::Same }
    }
}

impl<S: Clone + PartialEq, T> Made<S, T> {
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.known.as_ref().map(|(_, made)| Arc::clone(made))
    }

    /// Whether it is of the same settings, and of other files, than the one before.
    pub(super) fn renews(&self, before: &Self) -> bool {
        matches!((&self.known, &before.known), (Some((settings, made)), Some((known, was)))
            if settings == known && !Arc::ptr_eq(made, was))
    }

    /// Files have changed: where they are among its own, the next is made anew.
    pub(super) fn note_change(&mut self, concerns: impl FnOnce(&S) -> bool) {
        if self.known.as_ref().is_some_and(|(settings, _)| concerns(settings)) {
            self.files = Files::Changed;
        }
    }

    /// That of these settings: the same as before where it need not be another. `what` is what changes, in the words of the log.
    ///
    /// # Errors
    /// What cannot be made, where nothing may stay in its place.
    pub(super) async fn of(
        &self,
        settings: Option<&S>,
        broken: Broken,
        what: &str,
        make: impl AsyncFnOnce(S) -> Result<Arc<T>, Unusable>,
    ) -> Result<Self, Unusable> {
        let Some(settings) = settings else { return Ok(Self::default()) };
        let known = self.known.as_ref().filter(|(known, _)| known == settings);
        if let Some(known) = known.filter(|_| self.files == Files::Same) {
            return Ok(Self { known: Some(known.clone()), files: Files::Same });
        }
        match (make(settings.clone()).await, known) {
            (Ok(made), _) => Ok(Self { known: Some((settings.clone(), made)), files: Files::Same }),
            (Err(error), Some(known)) if broken == Broken::Stays => {
                tracing::error!(
                    "{what} has changed and cannot be taken over: {error}; the one before stays in force"
                );
                Ok(Self { known: Some(known.clone()), files: Files::Changed })
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(
        made: &Made<u8, u8>,
        settings: u8,
        broken: Broken,
        found: Result<u8, &str>,
    ) -> Result<Made<u8, u8>, Unusable> {
        let make = async |_| found.map(Arc::new).map_err(|error| Unusable::one(1, error.to_owned()));
        made.of(Some(&settings), broken, "a file", make).await
    }

    #[tokio::test]
    async fn it_is_made_anew_only_where_something_is_another_and_what_is_in_force_may_stay() {
        let never = Err("nobody should ask");
        let first = of(&Made::default(), 1, Broken::Refuses, Ok(10)).await.unwrap();
        let mut again = of(&first, 1, Broken::Refuses, never).await.unwrap();
        assert_eq!(again.get().as_deref(), Some(&10));
        again.note_change(|settings| *settings == 2);
        assert!(of(&again, 1, Broken::Refuses, never).await.is_ok());
        again.note_change(|settings| *settings == 1);
        assert!(of(&again, 1, Broken::Refuses, Err("broken")).await.is_err());
        let stays = of(&again, 1, Broken::Stays, Err("broken")).await.unwrap();
        assert_eq!(stays.get().as_deref(), Some(&10));
        assert!(
            of(&stays, 2, Broken::Stays, Err("broken")).await.is_err(),
            "of other settings nothing is in force"
        );
        let mended = of(&stays, 1, Broken::Stays, Ok(11)).await.unwrap();
        assert!(mended.renews(&stays) && !stays.renews(&again));
        assert!(!of(&mended, 2, Broken::Refuses, Ok(12)).await.unwrap().renews(&mended), "it is another");
        assert_eq!(of(&mended, 1, Broken::Stays, never).await.unwrap().get().as_deref(), Some(&11));
        assert!(
            mended
                .of(None, Broken::Stays, "a file", async |_| Err(Unusable::one(1, "never".to_owned())))
                .await
                .unwrap()
                .get()
                .is_none()
        );
    }
}
