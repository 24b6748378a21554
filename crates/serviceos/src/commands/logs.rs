//! `serviceos logs`: what replicas have written last, and with `-f` what they write.

use control::{AdminClient, LogEvent, LogLine, LogLines};
use serde_json::json;
use types::{ReplicaId, ServiceName};

use super::following::follow;
use super::percent_encoded;
use crate::cli::LogsArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{Reader, note, print_on};
use crate::up::output::text;

/// Whose lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    Service(ServiceName),
    Replica(ReplicaId),
}

/// What is printed of each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line of JSON.
    Json,
    /// A line for people.
    Text,
}

pub(crate) fn run(args: &LogsArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let form = if args.json { Form::Json } else { Form::Text };
    if args.follow {
        return block_on(follow(&client, &path(args), |event| told(event, form)));
    }
    let document: LogLines = block_on(async { Ok(client.get(&path(args)).await?) })?;
    if document.lines.is_empty() {
        note("serviceos: no line is kept of what was asked for");
    }
    for line in &document.lines {
        if print_on(shown(line, form)?)? == Reader::Gone {
            break;
        }
    }
    Ok(())
}

fn told(event: &LogEvent, form: Form) -> Result<String, Failure> {
    match (event, form) {
        (LogEvent::Line(line), form) => shown(line, form),
        (LogEvent::Missed(lines), Form::Json) => Ok(json!({"missed": lines}).to_string()),
        (LogEvent::Missed(lines), Form::Text) => {
            Ok(format!("({lines} lines are missing here: they were written faster than they were read)"))
        }
    }
}

fn shown(line: &LogLine, form: Form) -> Result<String, Failure> {
    match form {
        Form::Json => Ok(serde_json::to_string(line).map_err(anyhow::Error::from)?),
        Form::Text => Ok(text(line)),
    }
}

fn path(args: &LogsArgs) -> String {
    let mut query = Vec::new();
    query.extend(args.whose.as_ref().map(|whose| match whose {
        Whose::Service(service) => format!("service={service}"),
        Whose::Replica(replica) => format!("replica={}", percent_encoded(&replica.to_string())),
    }));
    query.extend(args.since.map(|since| format!("since={}", types::duration::text(since))));
    query.extend(args.follow.then(|| "follow=true".to_owned()));
    format!("/v1/logs?{}", query.join("&"))
}

/// `vrf` or `vrf/0`.
pub(crate) fn whose(argument: &str) -> Result<Whose, String> {
    let replica = argument.contains('/');
    let whose = if replica {
        argument.parse().map(Whose::Replica).ok()
    } else {
        argument.parse().map(Whose::Service).ok()
    };
    whose.ok_or_else(|| "expected a service such as vrf, or a replica such as vrf/0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asks(words: &str) -> Option<String> {
        let words = ["serviceos", "logs"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).ok()?.command {
            Command::Logs(args) => Some(path(&args)),
            _ => None,
        }
    }

    #[test]
    fn what_is_asked_for_is_what_was_typed() {
        assert_eq!(asks("").as_deref(), Some("/v1/logs?"));
        assert_eq!(asks("vrf").as_deref(), Some("/v1/logs?service=vrf"));
        let path = "/v1/logs?replica=vrf%2F0%40n1&since=1h30m&follow=true";
        assert_eq!(asks("vrf/0@n1 -f --since 1h30m").as_deref(), Some(path));
        for wrong in ["VRF", "vrf/x", "--since 1w", "vrf/0 vrf/1"] {
            assert_eq!(asks(wrong), None, "{wrong}");
        }
    }
}
