//! What a model takes and gives, and whether a request fits it.
//!
//! Owns the checks of names, datatypes and shapes. Every refusal names the tensor, what was expected
//! and what came. It never runs anything.

use crate::error::Error;
use crate::model::tensor::{DataType, Tensor};

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the graph.
    pub name: String,
    /// What each element is.
    pub datatype: DataType,
    /// The size of each dimension; -1 for one that the request chooses.
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// Whether a shape is one of those that this stands for.
    pub fn admits(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(&expected, &got)| expected < 0 || usize::try_from(expected) == Ok(got))
    }
}

/// A model's inputs and outputs, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// Why requests for this model can never share a run: the first tensor whose first dimension the request
    /// does not choose. `None` if they might.
    pub fn why_unbatchable(&self) -> Option<String> {
        let closed = |spec: &&TensorSpec| spec.shape.first().is_none_or(|&dimension| dimension >= 0);
        let told = |place: &str, spec: &TensorSpec| {
            format!("the first dimension of {place} '{}' of shape {:?} is not open", spec.name, spec.shape)
        };
        if let Some(spec) = self.inputs.iter().find(closed) {
            return Some(told("input", spec));
        }
        if let Some(spec) = self.outputs.iter().find(closed) {
            return Some(told("output", spec));
        }
        self.inputs.is_empty().then(|| "it has no inputs".to_owned())
    }

    /// Puts a request's tensors into the model's order, if they fit.
    ///
    /// # Errors
    /// `InvalidArgument`: an input too many, missing, twice, or of another datatype or shape.
    pub fn arrange(&self, model: &str, mut inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        if let [spec] = self.inputs.as_slice()
            && let [tensor] = inputs.as_slice()
            && tensor.name == spec.name
        {
            check(model, spec, tensor)?;
            return Ok(inputs);
        }
        if let Some(stranger) =
            inputs.iter().find(|tensor| !self.inputs.iter().any(|spec| spec.name == tensor.name))
        {
            return Err(Error::invalid(format!(
                "unexpected inference input '{}' for model '{model}'; it takes {}",
                stranger.name,
                names(&self.inputs)
            )));
        }
        let mut arranged = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            let Some(at) = inputs.iter().position(|tensor| tensor.name == spec.name) else {
                return Err(self.missing(model, &arranged, &inputs));
            };
            let tensor = inputs.swap_remove(at);
            check(model, spec, &tensor)?;
            arranged.push(tensor);
        }
        if let Some(twice) = inputs.first() {
            return Err(Error::invalid(format!("input '{}' is given more than once", twice.name)));
        }
        Ok(arranged)
    }

    /// The positions of the outputs that a request asks for: all of them if it names none.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that the model does not give.
    pub fn select_outputs<'a>(
        &self,
        model: &str,
        wanted: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Vec<usize>, Error> {
        if wanted.len() == 0 {
            return Ok((0..self.outputs.len()).collect());
        }
        wanted
            .map(|name| {
                self.outputs.iter().position(|spec| spec.name == name).ok_or_else(|| {
                    Error::invalid(format!(
                        "unexpected inference output '{name}' for model '{model}'; it gives {}",
                        names(&self.outputs)
                    ))
                })
            })
            .collect()
    }

    fn missing(&self, model: &str, arranged: &[Tensor], rest: &[Tensor]) -> Error {
        let given: Vec<_> = arranged.iter().chain(rest).map(|tensor| tensor.name.as_str()).collect();
        let missing: Vec<_> =
            self.inputs.iter().map(|spec| spec.name.as_str()).filter(|name| !given.contains(name)).collect();
        Error::invalid(format!(
            "expected {} inputs but got {} inputs for model '{model}'. Got input(s) [{}], but missing \
             required input(s) [{}]. Please provide all required input(s)",
            self.inputs.len(),
            given.len(),
            quoted(&given),
            quoted(&missing)
        ))
    }
}

fn check(model: &str, spec: &TensorSpec, tensor: &Tensor) -> Result<(), Error> {
    if tensor.datatype != spec.datatype {
        return Err(Error::invalid(format!(
            "inference input '{}' for model '{model}': expected datatype {}, got {}",
            spec.name, spec.datatype, tensor.datatype
        )));
    }
    if !spec.admits(&tensor.shape) {
        return Err(Error::invalid(format!(
            "unexpected shape for input '{}' for model '{model}': expected {:?}, got {:?}",
            spec.name, spec.shape, tensor.shape
        )));
    }
    Ok(())
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
    quoted(&names)
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, shape: &[i64]| TensorSpec {
            name: name.to_owned(),
            datatype: DataType::Fp32,
            shape: shape.to_vec(),
        };
        Signature { inputs: vec![spec("A", &[-1, 2]), spec("B", &[1])], outputs: vec![spec("Y", &[-1])] }
    }

    fn tensor(name: &str, shape: &[usize]) -> Tensor {
        let bytes = shape.iter().product::<usize>() * 4;
        Tensor::new(name, DataType::Fp32, shape.to_vec(), vec![0; bytes]).unwrap()
    }

    #[test]
    fn inputs_are_put_into_the_models_order() {
        let arranged = signature().arrange("m", vec![tensor("B", &[1]), tensor("A", &[3, 2])]).unwrap();
        assert_eq!(arranged.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refuse = |inputs| signature().arrange("m", inputs).unwrap_err().message.into_owned();
        let text = refuse(vec![tensor("A", &[3, 2])]);
        assert!(text.contains("expected 2 inputs but got 1") && text.contains("['B']"), "{text}");
        let text = refuse(vec![tensor("A", &[3, 3]), tensor("B", &[1])]);
        assert_eq!(text, "unexpected shape for input 'A' for model 'm': expected [-1, 2], got [3, 3]");
        let text = refuse(vec![tensor("C", &[1])]);
        assert!(text.starts_with("unexpected inference input 'C'") && text.contains("'A', 'B'"), "{text}");
        let text = refuse(vec![tensor("A", &[3, 2]), tensor("B", &[1]), tensor("B", &[1])]);
        assert_eq!(text, "input 'B' is given more than once");
    }

    #[test]
    fn only_models_whose_first_dimensions_are_all_open_share_runs() {
        let mut signature = signature();
        let told = signature.why_unbatchable().unwrap();
        assert_eq!(told, "the first dimension of input 'B' of shape [1] is not open");
        signature.inputs.pop();
        assert_eq!(signature.why_unbatchable(), None);
        signature.outputs[0].shape.clear();
        assert!(signature.why_unbatchable().unwrap().contains("output 'Y'"));
    }

    #[test]
    fn outputs_are_selected_by_name() {
        assert_eq!(signature().select_outputs("m", std::iter::empty()).unwrap(), [0]);
        let error = signature().select_outputs("m", ["Z"].into_iter()).unwrap_err();
        assert!(error.message.contains("'Z'") && error.message.contains("'Y'"));
    }
}
