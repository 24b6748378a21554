//! Arguments of `explain`.

use clap::Args;

use super::PlaceArgs;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Its method, such as `POST`.
    pub(crate) method: String,
    /// Its path, such as `/v1/random`, and perhaps a query.
    pub(crate) path: String,
    /// Its host; the gateway's own address when left out.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// A header field of it, such as `Service-Version: 2.0.0`; as often as there are.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}
