//! Flags that are the same for one member and for those of a whole cluster: copies that are made again, what a data node
//! removes by itself, how long a head keeps its registro.

use std::time::Duration;

use clap::Args;

use super::values;
use crate::daily::Keep;

/// How long heads wait for a data node.
#[derive(Debug, Args)]
pub(crate) struct RepairAfter {
    /// Time a data node may be away before what it keeps is copied to others
    #[arg(long, env = "ACOPIO_REPAIR_AFTER", value_name = "TIME", default_value = "60s",
        value_parser = values::duration)]
    pub(crate) repair_after: Duration,
}

/// How fast a data node makes copies, and when records go.
#[derive(Debug, Args)]
pub(crate) struct Upkeep {
    /// Pace at which a data node makes missing copies again, bytes of records a second
    #[arg(long, env = "ACOPIO_REPAIR_RATE", value_name = "SIZE", default_value = "10MB", value_parser = values::rate)]
    pub(crate) repair_rate: u64,
    /// Age at which a data node removes a sealed file, once all its records are that old, such as 30d [default: never]
    #[arg(long, env = "ACOPIO_KEEP", value_name = "TIME", value_parser = values::keep)]
    pub(crate) keep: Option<Duration>,
    /// Size of a data node's records past which it removes the oldest sealed files, such as 100GB [default: no limit]
    #[arg(long, env = "ACOPIO_KEEP_BYTES", value_name = "SIZE", value_parser = values::segment_bytes)]
    pub(crate) keep_bytes: Option<u64>,
}

/// How long a registro is kept.
#[derive(Debug, Args)]
pub(crate) struct KeepRegistro {
    /// Age at which days of registro.log go, such as 30d; `acopio audit` knows of it [default: never]
    #[arg(long, env = "ACOPIO_KEEP_REGISTRO", value_name = "TIME", value_parser = values::keep)]
    pub(crate) keep_registro: Option<Duration>,
    /// Size of all registro files of a head past which the oldest go, such as 10GB [default: no limit]
    #[arg(long, env = "ACOPIO_KEEP_REGISTRO_BYTES", value_name = "SIZE", value_parser = values::segment_bytes)]
    pub(crate) keep_registro_bytes: Option<u64>,
}

impl KeepRegistro {
    /// As its files take it.
    pub(crate) const fn keep(&self) -> Keep {
        Keep { age: self.keep_registro, bytes: self.keep_registro_bytes }
    }
}
