//! What changes for a command while it runs: its secrets and its configuration, which it has as files.

use std::convert::Infallible;

use sdk::{ConfigReload, Configs, Offer, SecretSet, StartError};
use tokio::sync::watch;

use super::child::Signalled;
use super::folder::Folder;

/// Where changes come from, and how the command learns of them.
pub(super) struct Changes {
    pub(super) secrets: watch::Receiver<SecretSet>,
    pub(super) configs: Configs,
    pub(super) reload: ConfigReload,
}

impl Changes {
    /// Rewrites the files as what is in them changes.
    pub(super) async fn follow(self, folder: &Folder, command: Signalled) -> Infallible {
        let Self { secrets, configs, reload } = self;
        let configured = async {
            configs.follow(|offer| configure(folder, &command, reload, offer)).await;
            // Nobody is a member any more.
            std::future::pending().await
        };
        tokio::select! {
            never = write_secrets(folder, secrets) => never,
            never = configured => never,
        }
    }
}

/// What is written, and told where that is wanted, is applied: nobody can see what a command makes of it.
fn configure(
    folder: &Folder,
    command: &Signalled,
    reload: ConfigReload,
    offer: &Offer,
) -> Result<(), StartError> {
    folder.write_config(offer.value()).map_err(|error| {
        StartError::new(format_args!("the file of the command's configuration cannot be rewritten: {error}"))
    })?;
    match reload {
        ConfigReload::File => {}
        ConfigReload::Signal => command.hang_up(),
    }
    Ok(())
}

async fn write_secrets(folder: &Folder, mut secrets: watch::Receiver<SecretSet>) -> Infallible {
    while secrets.changed().await.is_ok() {
        match folder.write_secrets(&secrets.borrow_and_update()) {
            Ok(()) => tracing::info!("the files of the command's secrets were rewritten"),
            Err(error) => tracing::error!(
                %error,
                "the command's secrets have changed, and their files cannot be rewritten; it is tried again at the next change, \
                 and a new start of the replica writes them anew"
            ),
        }
    }
    // Nobody is a member any more.
    std::future::pending().await
}
