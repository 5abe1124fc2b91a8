//! Lines into the host's log: `log::info!("parsed {count} labels", file = path)`.
//!
//! The message is a format string with captured variables; after it come fields, name and value. A
//! line costs a call to the host, so a level of [`trace!`] or [`debug!`] belongs in no inner loop.
//! Lines past the call's budget (`plugins.log`) are counted and dropped by the host.

use std::fmt::Display;

pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Each step, for the author only.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to see.
    Info,
    /// Something is off, but the request is answered.
    Warn,
    /// The request fails.
    Error,
}

/// Writes one line with named fields beside it; the macros of this module are shorter.
pub fn write(level: Level, message: impl Display, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    crate::host::log(level, &message.to_string(), &fields);
}

/// One line of the level `$level`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $message:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            ::core::format_args!($message),
            &[$((::core::stringify!($name), &$value as &dyn ::core::fmt::Display)),*],
        )
    };
}

/// Each step, for the author only.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) };
}

/// What helps to find a fault.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) };
}

/// What an operator wants to see.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($line:tt)+) => { $crate::__log!(Info, $($line)+) };
}

/// Something is off, but the request is answered.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) };
}

/// The request fails.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($line:tt)+) => { $crate::__log!(Error, $($line)+) };
}
