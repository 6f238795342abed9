"""Convolutions as matrix products give what XLA's own give, and refuse what they cannot do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.models.matmul_conv import Conv, convolved


@pytest.mark.parametrize("size, side, stride", [(3, 7, 1), (3, 7, 2), (3, 8, 2), (1, 5, 2), (5, 9, 3)])
def test_a_matrix_product_is_the_convolution(size, side, stride):
    first, second = jax.random.split(jax.random.key(0))
    images = jax.random.normal(first, (2, side, side + 3, 4))
    kernel = jax.random.normal(second, (size, size, 4, 5))
    expected = jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(convolved(images, kernel, stride), expected, atol=1e-4)


def test_a_layer_has_the_parameters_and_results_of_flax():
    images, key = jax.random.normal(jax.random.key(1), (2, 6, 6, 3)), jax.random.key(2)
    ours, theirs = Conv(4, (3, 3), strides=2), nn.Conv(4, (3, 3), strides=2)
    params = theirs.init(key, images)
    assert jax.tree.map(jnp.shape, ours.init(key, images)) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(ours.apply(params, images), theirs.apply(params, images), atol=1e-5)
    for wrong in ({"padding": "VALID"}, {"kernel_dilation": 2}, {"feature_group_count": 3, "features": 3}):
        with pytest.raises(ValueError, match="convolutions must have padding 'SAME'"):
            Conv(**{"features": 4, "kernel_size": (3, 3), **wrong}).init(key, images)
