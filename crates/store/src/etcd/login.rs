//! User and password become a token, which goes with every request and is made anew when etcd does not take it any more.

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::Login;
use super::client::NoAnswer;
use super::messages::{LoginAnswer, LoginRequest};
use super::refusal::Refusal;

/// What requests show.
#[derive(Clone, Default)]
pub(super) struct Token {
    /// How many there were, this one with them.
    pub(super) number: u64,
    /// `None` where there are no users.
    pub(super) header: Option<HeaderValue>,
}

/// Who logs in, and the last token. Whoever wants another one waits for the one that is being made: a login costs etcd a slow
/// hash.
pub(super) struct Logins {
    login: Option<Login>,
    last: Mutex<Token>,
}

impl Logins {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self { login, last: Mutex::default() }
    }

    pub(super) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// A token later than the one of that number; an empty one where nobody is to log in.
    pub(super) async fn token<F>(
        &self,
        after: u64,
        log_in: impl FnOnce(Bytes) -> F,
    ) -> Result<Token, NoAnswer>
    where
        F: Future<Output = Result<Bytes, NoAnswer>>,
    {
        let Some(login) = &self.login else { return Ok(Token::default()) };
        let mut last = self.last.lock().await;
        if last.number <= after {
            let request = LoginRequest { name: &login.user, password: &login.password };
            let body = Zeroizing::new(serde_json::to_vec(&request).expect("two strings"));
            let header = match log_in(Bytes::from_owner(body)).await {
                Ok(answer) => Some(header(&answer)?),
                Err(NoAnswer::Refused(Refusal::NoUsers)) => None,
                Err(other) => return Err(other),
            };
            *last = Token { number: last.number + 1, header };
        }
        Ok(last.clone())
    }
}

fn header(answer: &[u8]) -> Result<HeaderValue, NoAnswer> {
    let failed = |reason: &str| NoAnswer::Refused(Refusal::Failed(format!("the login gave {reason}")));
    let answer: LoginAnswer = serde_json::from_slice(answer).map_err(|_| failed("no JSON"))?;
    let mut header = HeaderValue::try_from(answer.token).map_err(|_| failed("no token"))?;
    header.set_sensitive(true);
    Ok(header)
}
