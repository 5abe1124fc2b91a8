#!/usr/bin/env python3
"""Trains a model like models/digits/1/model.onnx: scikit-learn's digits, 64 numbers to 10 probabilities.

    pip install numpy onnx scikit-learn
    python train_digits.py OUT.onnx

Scaling, hidden layer and softmax are written as plain ONNX operators (opset 13). Prints the accuracy
on the quarter of the pictures that was held back. Another version of scikit-learn gives other weights.
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler


def train():
    """The scaler, the network, and its accuracy on unseen pictures."""
    digits = load_digits()
    pictures = digits.data.astype(np.float32)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        pictures, digits.target, test_size=0.25, random_state=0
    )
    scaler = StandardScaler().fit(seen)
    network = MLPClassifier((64,), max_iter=200, random_state=0)
    network.fit(scaler.transform(seen), seen_labels)
    return scaler, network, network.score(scaler.transform(unseen), unseen_labels)


def build(scaler, network):
    """The model's bytes."""
    constants = {
        "offset": scaler.mean_,
        "scale": 1 / scaler.scale_,
        "hidden_weights": network.coefs_[0],
        "hidden_bias": network.intercepts_[0],
        "output_weights": network.coefs_[1],
        "output_bias": network.intercepts_[1],
    }
    nodes = [
        helper.make_node("Sub", ["X", "offset"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "hidden_weights", "hidden_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "output_weights", "output_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: train_digits.py OUT.onnx")
    scaler, network, accuracy = train()
    content = build(scaler, network)
    with open(sys.argv[1], "wb") as file:
        file.write(content)
    print(f"{sys.argv[1]}: {len(content)} bytes, {accuracy:.1%} of the unseen pictures right")


if __name__ == "__main__":
    main()
