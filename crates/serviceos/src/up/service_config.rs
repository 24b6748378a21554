//! What the built-in services say of their `config`.

use configuration::Builtin;

/// Asks a built-in service whether it understands its `config`.
pub(crate) fn check_service_config(builtin: Builtin, config: &serde_json::Value) -> Result<(), String> {
    match builtin {
        Builtin::Vrf => vrf::check_config(config),
        Builtin::Datafeed => datafeed::check_config(config),
        Builtin::Oracle => oracle::check_config(config),
    }
}
