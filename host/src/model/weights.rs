//! Weights that a model keeps in other files, lent to ONNX Runtime where they lie in memory.
//!
//! Owns the one call, over the C interface: the wrapper's own takes its own copy of the bytes, where those in
//! here may be memory that several processes share.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};

use bytes::Bytes;
use ort::AsPointer as _;
use ort::session::builder::SessionBuilder;

/// Lends files to a session that is to be made. They have to stay for as long as the session.
pub(super) fn give(builder: &mut SessionBuilder, files: &BTreeMap<String, Bytes>) -> Result<(), ort::Error> {
    if files.is_empty() {
        return Ok(());
    }
    let names = files.keys().map(|name| CString::new(name.as_str())).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| ort::Error::new("the path of external data has a NUL byte"))?;
    let paths: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let bytes: Vec<*mut c_char> =
        files.values().map(|bytes| bytes.as_ptr().cast::<c_char>().cast_mut()).collect();
    let lengths: Vec<usize> = files.values().map(Bytes::len).collect();
    // SAFETY: `builder` is a live set of session options. The three arrays have one entry for each file, and live
    // until the call returns; ONNX Runtime copies them, and the names. It keeps the pointers to the bytes, which
    // it only reads (the interface lacks the `const`): the caller keeps the bytes, which do not move, until the
    // session is gone.
    unsafe {
        let status = (ort::api().AddExternalInitializersFromMemory)(
            builder.ptr_mut(),
            paths.as_ptr(),
            bytes.as_ptr(),
            lengths.as_ptr(),
            files.len(),
        );
        ort::Error::result_from_status(status)
    }
}
