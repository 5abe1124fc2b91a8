#!/usr/bin/env python3
"""Checks a running host with the REST client of KServe's SDK, by version 2 and version 1 of the protocol.

    python kserve_client.py http://127.0.0.1:8080

The host has to serve `tiny` of tests/fixtures/models. It ends with `ok`, or with the failed expectation.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

ROWS = np.arange(32, dtype=np.float32).reshape(2, 16)
EXPECTED = ROWS @ (np.outer(np.arange(1, 17), np.arange(1, 5)) / 64).astype(np.float32)


async def version_2(url):
    """Health, metadata of readiness, and infer as JSON and as binary."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "tiny")
    for binary in (False, True):
        made = InferInput("x", list(ROWS.shape), "FP32")
        made.set_data_from_numpy(ROWS, binary_data=binary)
        request = InferRequest(model_name="tiny", infer_inputs=[made])
        answer = await client.infer(url, request, model_name="tiny")
        assert answer.model_name == "tiny", answer
        assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED, rtol=1e-5), answer.outputs[0].as_numpy()
    await client.close()


async def version_1(url):
    """Readiness, and rows."""
    client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=60))
    assert await client.is_model_ready(url, "tiny")
    answer = await client.infer(url, {"instances": ROWS.tolist()}, model_name="tiny")
    assert np.allclose(np.array(answer["predictions"]), EXPECTED, rtol=1e-5), answer
    await client.close()


async def main(url):
    await version_2(url)
    await version_1(url)
    print("ok")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
