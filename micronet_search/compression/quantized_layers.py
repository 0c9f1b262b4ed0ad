"""Layers that round their weights and their input by quantizers of their own."""

from torch import Tensor, nn


class QuantizedConv2d(nn.Conv2d):
    """A convolution with quantized weights and input."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Convolves an image, as the plain layer does."""
        weight = self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(self.input_quantizer(input), weight, self.bias)
        return output


class QuantizedLinear(nn.Linear):
    """A linear layer with quantized weights and input."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies an input, as the plain layer does."""
        weight = self.weight_quantizer(self.weight)
        return nn.functional.linear(self.input_quantizer(input), weight, self.bias)
