//! Arguments of `top`.

use clap::Args;

use super::PlaceArgs;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}
