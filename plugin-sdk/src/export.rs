//! Makes a component of a plugin: the glue between the contract's functions and the trait.

use std::cell::OnceCell;

use crate::error::{Error, Result};
use crate::message::{Context, Outputs, Preprocessed, Request, Response};
use crate::pairs::Parameters;
use crate::plugin::Plugin;

/// Makes a component of a [`Plugin`]: `export_plugin!(MyPlugin);`, once per crate. Outside WebAssembly
/// it only checks that the type is a plugin.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: $crate::__private::Instance<$plugin> =
                    const { $crate::__private::Instance::new() };
            }
            struct Component;
            $crate::__private::implement_guest!(Component, INSTANCE);
    $crate::bindings::export_plugin_world!(Component with_types_in $crate::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            const fn is_a_plugin<P: $crate::Plugin>() {}
            is_a_plugin::<$plugin>();
        };
    };
}

/// Implements the generated traits on `$component`.
#[doc(hidden)]
#[macro_export]
macro_rules! __implement_guest {
    ($component:ident, $instance:ident) => {
        impl $crate::bindings::exports::nuke::plugin::preprocessor::Guest for $component {
            fn preprocess(
                input: $crate::bindings::exports::nuke::plugin::preprocessor::Payload,
            ) -> ::core::result::Result<
                $crate::bindings::exports::nuke::plugin::preprocessor::Preprocessed,
                $crate::bindings::exports::nuke::plugin::preprocessor::PluginError,
            > {
                let answer = $instance.with(|instance| instance.preprocess(input.into()));
                answer.map(::core::convert::Into::into).map_err(::core::convert::Into::into)
            }
        }
        impl $crate::bindings::exports::nuke::plugin::postprocessor::Guest for $component {
            fn postprocess(
                outputs: ::std::vec::Vec<$crate::bindings::exports::nuke::plugin::postprocessor::Tensor>,
                context: ::std::vec::Vec<u8>,
                parameters: ::std::vec::Vec<
                    $crate::bindings::exports::nuke::plugin::postprocessor::Parameter,
                >,
            ) -> ::core::result::Result<
                $crate::bindings::exports::nuke::plugin::postprocessor::Payload,
                $crate::bindings::exports::nuke::plugin::postprocessor::PluginError,
            > {
                let outputs =
                    outputs.into_iter().map(::core::convert::Into::into).collect::<::std::vec::Vec<_>>();
                let answer = $instance.with(|instance| {
                    instance.postprocess(
                        $crate::Outputs::new(outputs),
                        $crate::Context(context),
                        $crate::Parameters::new(parameters),
                    )
                });
                answer.map(::core::convert::Into::into).map_err(::core::convert::Into::into)
            }
        }
    };
}

/// The plugin of this instance, made at its first call. If that fails, each call says why.
#[derive(Debug)]
pub struct Instance<P> {
    plugin: OnceCell<Result<P>>,
}

impl<P: Plugin> Instance<P> {
    /// Nothing yet.
    #[expect(clippy::new_without_default, reason = "made in one place, by the macro, as a constant")]
    pub const fn new() -> Self {
        Self { plugin: OnceCell::new() }
    }

    /// [`Plugin::preprocess`] of this instance.
    ///
    /// # Errors
    /// The plugin's, or that of its `new`.
    pub fn preprocess(&self, request: Request) -> Result<Preprocessed> {
        self.plugin()?.preprocess(request)
    }

    /// [`Plugin::postprocess`] of this instance.
    ///
    /// # Errors
    /// The plugin's, or that of its `new`.
    pub fn postprocess(
        &self,
        outputs: Outputs,
        context: Context,
        parameters: Parameters,
    ) -> Result<Response> {
        self.plugin()?.postprocess(outputs, context, parameters)
    }

    fn plugin(&self) -> Result<&P> {
        let made = self.plugin.get_or_init(|| {
            #[cfg(target_arch = "wasm32")]
            explain_panics();
            P::new()
        });
        made.as_ref().map_err(Error::clone)
    }
}

/// Writes a panic's message and place into the host's log before it traps: inside a component there is
/// no other way out for them.
#[cfg(target_arch = "wasm32")]
fn explain_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let fields = [("location".to_owned(), location)];
        crate::host::log(crate::log::Level::Error, &format!("the plugin panicked: {message}"), &fields);
    }));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static MADE: Cell<u32> = const { Cell::new(0) };
    }

    struct Counted;

    impl Plugin for Counted {
        fn new() -> Result<Self> {
            MADE.set(MADE.get() + 1);
            Ok(Self)
        }
    }

    struct Broken;

    impl Plugin for Broken {
        fn new() -> Result<Self> {
            Err(Error::internal("labels.txt is empty"))
        }
    }

    #[test]
    fn a_plugin_is_made_once() {
        let instance = Instance::<Counted>::new();
        for _ in 0..3 {
            assert!(instance.preprocess(Request::default()).is_err());
            instance.postprocess(Outputs::default(), Context::default(), Parameters::default()).unwrap();
        }
        assert_eq!(MADE.get(), 1);
    }

    #[test]
    fn why_it_could_not_be_made_is_what_every_call_says() {
        let instance = Instance::<Broken>::new();
        for _ in 0..2 {
            assert_eq!(instance.preprocess(Request::default()).unwrap_err().message, "labels.txt is empty");
        }
    }
}
