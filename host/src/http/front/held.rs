//! What an answer keeps until it has been handed over, or dropped.
//!
//! Owns its part of the memory of all requests, which is taken once its size is known, and the caller's place. Both
//! travel in the answer's extensions.

use std::sync::Arc;

use axum::response::Response;
use http::{Extensions, header};
use http_body::Body as _;

use super::memory::{MemoryBudget, Reservation};
use crate::auth::Admitted;
use crate::error::Error;

/// Answers up to this size are in what every request takes.
const SMALL: usize = 16 << 10;

/// In the extensions of an answer whose body does not say how long it is: bytes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerSize(pub(crate) usize);

/// Takes the memory of an answer; it is given back when its last byte has been handed over.
///
/// # Errors
/// `Unavailable` if it is not there. One answer at a time goes beyond the bound, so that none is too large for ever.
pub(crate) fn reserve(response: &mut Response, memory: &MemoryBudget) -> Result<(), Error> {
    let Some(size) = size_of(response).filter(|&size| size > SMALL) else {
        return Ok(());
    };
    let reservation = memory.reserve_answer(size)?;
    response.extensions_mut().insert(Arc::new(reservation));
    Ok(())
}

fn size_of(response: &Response) -> Option<usize> {
    let exact = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let declared = || response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let told = || response.extensions().get::<AnswerSize>().map(|size| size.0);
    exact.or_else(declared).or_else(told)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held {
    _memory: Option<Arc<Reservation>>,
    _place: Option<Arc<Admitted>>,
}

impl Held {
    /// Takes it out of an answer's extensions.
    pub(super) fn take(extensions: &mut Extensions) -> Self {
        Self { _memory: extensions.remove(), _place: extensions.remove() }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn an_answer_counts_by_its_size_until_it_is_dropped_and_one_always_goes() {
        let memory = MemoryBudget::new(100 << 10);
        let answer = |size: usize| Response::new(Body::from(vec![0; size]));
        let mut small = answer(SMALL);
        reserve(&mut small, &memory).unwrap();
        assert_eq!(memory.used(), 0, "the request's own part");
        // Larger than all the memory.
        let mut huge = answer(200 << 10);
        reserve(&mut huge, &memory).unwrap();
        assert_eq!(memory.used(), 200 << 10);
        let refused = reserve(&mut answer(20 << 10), &memory).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(memory.reserve(1).is_err());
        let held = Held::take(huge.extensions_mut());
        drop(huge);
        assert_eq!(memory.used(), 200 << 10, "it is not handed over yet");
        drop(held);
        assert_eq!(memory.used(), 0);
        let mut all = Vec::new();
        for _ in 0..5 {
            let mut one = answer(20 << 10);
            reserve(&mut one, &memory).unwrap();
            all.push(one);
        }
        assert!(reserve(&mut answer(20 << 10), &memory).is_err());
        let mut told =
            Response::new(Body::from_stream(futures_util::stream::pending::<Result<&str, Error>>()));
        told.extensions_mut().insert(AnswerSize(20 << 10));
        assert!(reserve(&mut told, &memory).is_err());
        drop(all);
        reserve(&mut told, &memory).unwrap();
        assert_eq!(memory.used(), 20 << 10);
    }
}
