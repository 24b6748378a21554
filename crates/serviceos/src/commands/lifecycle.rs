//! `serviceos scale`, `drain` and `restart`: how many replicas there are, and which begin anew or stay stopped.

use control::{
    AdminClient, ConfigChanged, EventEntries, EventEntry, InstanceEntry, Instances, ScaleRequest, ToldEvent,
};
use types::ReplicaId;

use super::logs::Whose;
use crate::cli::{DrainArgs, RestartArgs, ScaleArgs};
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

/// A revision of the configuration of its own, which stays in force until the file means something else.
pub(crate) fn scale(args: &ScaleArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let (service, replicas) = (&args.wanted.service, args.wanted.replicas);
    let body = serde_json::to_vec(&ScaleRequest { replicas }).map_err(anyhow::Error::from)?;
    let path = format!("/v1/services/{service}/scale");
    let changed: ConfigChanged =
        block_on(async { Ok(client.change(&path, ("application/json", body), None).await?) })?;
    if args.json {
        return print_json(&changed);
    }
    if !changed.changed {
        return print(format_args!("{replicas} replicas of {service} are wanted already"));
    }
    let changes = changed.diff.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    print(format_args!(
        "{changes}\nrevision {} of the configuration; it stays in force until the file means something else",
        changed.revision
    ))
}

/// Waits until the replica has finished.
pub(crate) fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let id = &args.replica;
    let of_service = format!("service={}", id.service);
    block_on(async {
        let before: EventEntries = client.get(&format!("/v1/events?{of_service}")).await?;
        client.order(&format!("/v1/replicas/{id}/drain")).await?;
        print(format_args!("{id} gets no more requests, and finishes those that it has"))?;
        let now: Instances = client.get(&format!("/v1/services/{}/instances", id.service)).await?;
        let is_it = |entry: &&InstanceEntry| entry.id == id.to_string();
        if now.instances.iter().find(is_it).is_none_or(|entry| entry.state != "Stopped") {
            let after = before.events.last().map(|event| event.id.as_str()).unwrap_or_default();
            stopped(&client, &format!("/v1/events?{of_service}&after={after}&follow=true"), id).await?;
        }
        print(format_args!("{id} is stopped; `serviceos restart {id}` starts it again"))
    })
}

/// Returns once the events of a path say that the replica has stopped, whatever became of it since.
async fn stopped(client: &AdminClient, path: &str, id: &ReplicaId) -> Result<(), Failure> {
    let mut stream = client.watch::<ToldEvent>(path).await?;
    while let Some(event) = stream.next().await? {
        let is_it = |event: &EventEntry| event.replica.as_deref() == Some(&id.to_string());
        if matches!(event, ToldEvent::Happened(event) if is_it(&event) && event.to.as_deref() == Some("Stopped"))
        {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("serviceos has ended meanwhile").into())
}

pub(crate) fn restart(args: &RestartArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let (path, said) = match &args.whose {
        Whose::Replica(id) => (
            format!("/v1/replicas/{id}/restart"),
            format!("{id} finishes the requests that it has, and starts again"),
        ),
        Whose::Service(service) => (
            format!("/v1/services/{service}/restart"),
            format!(
                "the replicas of {service} start again, so that no more are missing at a time than may be; \
                 `serviceos events {service} -f` shows how far that is"
            ),
        ),
    };
    block_on(async { Ok(client.order(&path).await?) })?;
    print(said)
}
