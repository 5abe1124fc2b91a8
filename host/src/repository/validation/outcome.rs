//! From what became of a child to a verdict, and a reason that an operator can act on.
//!
//! Owns the words. It never looks at a version.

use std::sync::Once;

use super::ValidationOptions;
use super::process::Fate;
use super::wire::Line;
use crate::child::{lacks_memory, quote, told};
use crate::config::{ByteSize, duration_text};

/// What is said of a good version; of a bad one, why it is.
pub(super) fn judge(
    fate: Fate,
    model_path: &str,
    options: &ValidationOptions,
) -> Result<Vec<String>, String> {
    tell_unconfined(&fate.lines);
    // A verdict counts if it was the last thing that the child did in order.
    let ended_well = fate.status.is_some_and(|status| status.success());
    match fate.lines.last() {
        Some(Line::Good(warnings)) if ended_well => return Ok(warnings.clone()),
        Some(Line::Bad(reason)) if ended_well => return Err(with_memory_hint(reason, options)),
        _ => {}
    }
    let stage = fate.lines.iter().rev().find_map(|line| match line {
        Line::Stage(stage) => Some(stage.as_str()),
        _ => None,
    });
    let stage = stage.unwrap_or("the process that validates started");
    let Some(status) = fate.status else {
        return Err(format!(
            "{model_path}: validation took longer than {} and was ended while {stage}; if the version is meant \
             to take that long, raise repository.validation.time",
            duration_text(options.time)
        ));
    };
    let mut reason = format!("{model_path}: the process that validated it {} while {stage}", told(status));
    let words = quote(&fate.errors);
    if !words.is_empty() {
        reason.push_str(", saying: ");
        reason.push_str(&words);
    }
    Err(with_memory_hint(&reason, options))
}

/// Once for each host: what holds for one child holds for all.
fn tell_unconfined(lines: &[Line]) {
    static TOLD: Once = Once::new();

    let left: Vec<&str> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Unconfined(what) => Some(what.as_str()),
            _ => None,
        })
        .collect();
    if !left.is_empty() {
        TOLD.call_once(|| {
            tracing::warn!(
                left = left.join("; "),
                "versions are validated in a process with more rights than it needs"
            );
        });
    }
}

fn with_memory_hint(reason: &str, options: &ValidationOptions) -> String {
    if !lacks_memory(reason) {
        return reason.to_owned();
    }
    let memory = ByteSize::bytes(options.memory);
    format!(
        "{reason}; validation may use {memory} beyond the size of the files: if the version is meant to need more, \
         raise repository.validation.memory"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    const OPTIONS: ValidationOptions =
        ValidationOptions { memory: 1 << 30, time: Duration::from_secs(2), verdicts: None };

    fn fate(status: Option<i32>, lines: &[Line], errors: &str) -> Fate {
        Fate { status: status.map(ExitStatus::from_raw), lines: lines.to_vec(), errors: errors.to_owned() }
    }

    fn reason(fate: Fate) -> String {
        judge(fate, "m.onnx", &OPTIONS).unwrap_err()
    }

    #[test]
    fn a_verdict_counts_only_at_the_end_of_an_orderly_life() {
        let good = [Line::Good(vec!["odd".to_owned()])];
        assert_eq!(judge(fate(Some(0), &good, ""), "m", &OPTIONS).unwrap(), ["odd"]);
        assert!(reason(fate(Some(11), &good, "")).contains("SIGSEGV"));
        assert!(reason(fate(None, &good, "")).contains("longer than 2s"));
        let taken_back = [good[0].clone(), Line::Stage("it went on".to_owned())];
        assert!(
            reason(fate(Some(0), &taken_back, ""))
                .contains("without a verdict (exit code 0) while it went on")
        );
        assert_eq!(reason(fate(Some(0), &[Line::Bad("no".to_owned())], "")), "no");
    }

    #[test]
    fn reasons_name_the_stage_the_signal_and_the_last_words() {
        let stage = [Line::Stage("it ran".to_owned()), Line::Unconfined("x".to_owned())];
        let text = reason(fate(Some(6), &stage, "terminate called\nafter\tall.\n"));
        let expected = "m.onnx: the process that validated it was ended by SIGABRT (it gave up) while it ran, \
                        saying: terminate called after all";
        assert_eq!(text, expected);
        assert!(reason(fate(Some(64), &stage, "")).contains("by signal 64"));
        assert!(reason(fate(Some(7 << 8), &stage, "")).contains("exit code 7"));
        let text = reason(fate(Some(6), &stage, &"word ".repeat(1000)));
        assert!(text.len() < 500 && text.contains("saying: …"), "{text}");
    }

    #[test]
    fn who_lacks_memory_is_told_how_to_grant_it() {
        let text = reason(fate(Some(6), &[], "memory allocation of 5 bytes failed"));
        assert!(text.contains("1GiB") && text.contains("repository.validation.memory"), "{text}");
    }
}
