//! On which device a model's operators run, and whether that is what was asked for.
//!
//! Owns the judgement of what ONNX Runtime tells of its nodes: a model counts as on a GPU only if all of it is
//! there but for work on shapes, which ONNX Runtime keeps on the cores because it is quicker there. Nothing
//! here runs a model.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::options::Device;

/// The name that ONNX Runtime has for the machine's cores.
const CPU: &str = "CPUExecutionProvider";
/// Providers that run on an NVIDIA GPU.
const GPU: [&str; 2] = ["CUDAExecutionProvider", "TensorrtExecutionProvider"];
/// Whole numbers that a shape's calculation may have; a tensor of more is data.
const SHAPE_ELEMENTS: u64 = 1024;
/// Fractions that it may have (the scales of a resize); a tensor of more is data.
const SCALES: u64 = 16;
/// Operators that scales are made by.
const SCALE_OPS: [&str; 14] = [
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "Div",
    "Expand",
    "Floor",
    "Gather",
    "Identity",
    "Mul",
    "Reshape",
    "Slice",
    "Squeeze",
    "Unsqueeze",
];
/// Nodes that an error names.
const NAMED: usize = 5;

/// Where a model runs, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// Why it is this one, in words.
    pub reason: String,
    /// Nodes by the provider that runs them, as far as that was looked at: on a GPU only.
    pub nodes: BTreeMap<String, usize>,
}

impl Placement {
    /// On the machine's cores.
    pub(super) fn cpu(reason: impl Into<String>) -> Self {
        Self { device: Device::Cpu, reason: reason.into(), nodes: BTreeMap::new() }
    }
}

/// One node of a model, as a profiled run shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    name: String,
    operator: String,
    provider: String,
    /// Datatypes and elements of what it gives.
    outputs: Vec<(String, u64)>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, Vec<u64>>>,
}

/// Reads the nodes out of ONNX Runtime's profile of a run, each once.
///
/// # Errors
/// It is no such profile.
pub(super) fn read_profile(text: &str) -> Result<Vec<Node>, String> {
    let events: Vec<Event> = serde_json::from_str(text)
        .map_err(|error| format!("ONNX Runtime's profile is not as expected: {error}"))?;
    let mut seen = BTreeSet::new();
    let mut nodes = Vec::new();
    for Event { cat, name, args } in events {
        if cat != "Node" || args.provider.is_empty() || !seen.insert(name.clone()) {
            continue;
        }
        let outputs = args.output_type_shape.into_iter().flatten();
        let elements = |shape: Vec<u64>| shape.into_iter().fold(1_u64, u64::saturating_mul);
        nodes.push(Node {
            name: name.trim_end_matches("_kernel_time").to_owned(),
            operator: args.op_name,
            provider: args.provider,
            outputs: outputs.map(|(datatype, shape)| (datatype, elements(shape))).collect(),
        });
    }
    Ok(nodes)
}

impl Node {
    fn is_on_gpu(&self) -> bool {
        GPU.contains(&self.provider.as_str())
    }

    /// Whether it only calculates with shapes.
    fn is_shape_work(&self) -> bool {
        let is_small = |(datatype, elements): &(String, u64)| match datatype.as_str() {
            "int64" | "int32" | "bool" => *elements <= SHAPE_ELEMENTS,
            "float" | "double" => *elements <= SCALES && SCALE_OPS.contains(&self.operator.as_str()),
            _ => false,
        };
        !self.outputs.is_empty() && self.outputs.iter().all(is_small)
    }
}

/// Whether these nodes are a model on `device`; else why not.
///
/// # Errors
/// In words for an operator.
pub(super) fn judge(nodes: &[Node], device: Device) -> Result<Placement, String> {
    let mut by_provider = BTreeMap::new();
    for node in nodes {
        *by_provider.entry(node.provider.clone()).or_insert(0) += 1;
    }
    let on_gpu = nodes.iter().filter(|node| node.is_on_gpu()).count();
    if on_gpu == 0 {
        return Err(format!("none of its {} nodes runs on the GPU", nodes.len()));
    }
    let strays: Vec<&Node> = nodes
        .iter()
        .filter(|node| !(node.is_on_gpu() || (node.provider == CPU && node.is_shape_work())))
        .collect();
    if !strays.is_empty() {
        let named: Vec<_> =
            strays.iter().take(NAMED).map(|node| format!("{} ({})", node.operator, node.name)).collect();
        let more = strays.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        return Err(format!(
            "{} of its {} nodes would run elsewhere: {}{more}; export the model with operators that the GPU has, \
             or set workers.device to cpu",
            strays.len(),
            nodes.len(),
            named.join(", ")
        ));
    }
    let on_cpu = nodes.len() - on_gpu;
    let reason = match on_cpu {
        0 => format!("all of its {on_gpu} nodes run on the GPU"),
        _ => format!(
            "{on_gpu} of its nodes run on the GPU, and {on_cpu} that calculate with shapes on the cores"
        ),
    };
    Ok(Placement { device, reason, nodes: by_provider })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(operator: &str, provider: &str, outputs: &[(&str, u64)]) -> Node {
        Node {
            name: format!("{operator}_1"),
            operator: operator.to_owned(),
            provider: provider.to_owned(),
            outputs: outputs.iter().map(|(datatype, elements)| ((*datatype).to_owned(), *elements)).collect(),
        }
    }

    fn judged(nodes: &[Node]) -> Result<Placement, String> {
        judge(nodes, Device::Cuda(0))
    }

    #[test]
    fn a_model_on_the_gpu_is_one() {
        let nodes = [node("Conv", GPU[0], &[("float", 1 << 20)]), node("Relu", GPU[1], &[("float", 1)])];
        let placement = judged(&nodes).unwrap();
        assert_eq!(
            (placement.device, placement.reason.as_str()),
            (Device::Cuda(0), "all of its 2 nodes run on the GPU")
        );
        assert_eq!(placement.nodes.into_values().collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn work_on_shapes_may_stay_on_the_cores() {
        let nodes = [
            node("Conv", GPU[0], &[("float", 1 << 20)]),
            node("Shape", CPU, &[("int64", 4)]),
            node("Gather", CPU, &[("int64", 1)]),
            node("Cast", CPU, &[("float", 2)]),
            node("Equal", CPU, &[("bool", 1)]),
        ];
        let placement = judged(&nodes).unwrap();
        assert!(placement.reason.contains("4 that calculate with shapes"), "{}", placement.reason);
    }

    #[test]
    fn a_model_that_is_in_part_elsewhere_is_refused_with_the_nodes() {
        for stray in [
            node("Conv", CPU, &[("float", 1 << 20)]),
            // Small, but no calculation of scales.
            node("Softmax", CPU, &[("float", 3)]),
            node("Cast", CPU, &[("float", 17)]),
            node("NonMaxSuppression", CPU, &[("int64", 5000)]),
            node("Tokenize", CPU, &[("string", 1)]),
            node("If", CPU, &[]),
            node("Shape", "SomeExecutionProvider", &[("int64", 4)]),
        ] {
            let operator = stray.operator.clone();
            let error = judged(&[node("Conv", GPU[0], &[("float", 9)]), stray]).unwrap_err();
            assert!(error.contains(&format!("1 of its 2 nodes would run elsewhere: {operator}")), "{error}");
            assert!(error.contains("workers.device"), "{error}");
        }
        let many: Vec<_> = (0..9).map(|_| node("Conv", CPU, &[("float", 99)])).collect();
        let error = judged(&[&many[..], &[node("Conv", GPU[0], &[])]].concat()).unwrap_err();
        assert!(error.contains(" and 4 more; "), "{error}");
    }

    #[test]
    fn a_model_without_a_node_on_the_gpu_is_refused() {
        for nodes in [vec![], vec![node("Shape", CPU, &[("int64", 1)])]] {
            assert!(judged(&nodes).unwrap_err().starts_with("none of its"));
        }
    }

    #[test]
    fn a_profile_is_read() {
        let text = r#"[
            {"cat":"Session","name":"model_loading_array","args":{}},
            {"cat":"Node","name":"conv/a_kernel_time","args":{"op_name":"Conv","provider":"CUDAExecutionProvider",
             "node_index":"0","output_type_shape":[{"float":[1,8,2]},{"float":[]}]}},
            {"cat":"Node","name":"conv/a_kernel_time","args":{"op_name":"Conv","provider":"CUDAExecutionProvider"}},
            {"cat":"Node","name":"conv/a_fence_before","args":{"op_name":"Conv"}}
        ]"#;
        assert_eq!(
            read_profile(text).unwrap(),
            [Node { name: "conv/a".to_owned(), ..node("Conv", GPU[0], &[("float", 16), ("float", 1)]) }]
        );
        for wrong in ["", "{}", "[{\"cat\":\"Node\"", "[{\"cat\":1}]"] {
            assert!(read_profile(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_profile_is_read_or_refused(text in any::<String>()) {
            let _any = read_profile(&text);
        }

        // Whatever the nodes are: a judgement that a model is on the GPU means that no large tensor is made elsewhere.
        #[test]
        fn no_large_tensor_is_ever_made_elsewhere(
            nodes in prop::collection::vec((0_usize..3, 0_usize..4, 0_u64..5000), 0..20),
        ) {
            let providers = [GPU[0], GPU[1], CPU];
            let types = ["float", "int64", "float16", "bool"];
            let nodes: Vec<Node> = nodes
                .into_iter()
                .map(|(provider, datatype, elements)| node("Cast", providers[provider], &[(types[datatype], elements)]))
                .collect();
            if judged(&nodes).is_ok() {
                let strays = nodes.iter().filter(|node| node.provider == CPU);
                prop_assert!(strays.flat_map(|node| &node.outputs).all(|(_, elements)| *elements <= SHAPE_ELEMENTS));
            }
        }
    }
}
