// Kernels for feature maps and weights in bfloat16 on a CPU; compiled.py compiles and wraps them.
//
// Every sum runs over fixed parts of its input, whatever the number of threads, and the parts are added in order: the
// same input gives the same bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"

// Only the loops are compiled for several processors: TensorFlow's headers do not compile for all of them.
#if defined(__x86_64__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;
using Bits = uint16_t;  // of a bfloat16

inline float widen(Bits bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// To the nearest, ties to even; NaN stays NaN.
inline Bits narrow(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, sizeof wide);
  const uint32_t rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  return static_cast<Bits>((wide & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

// ---------------------------------------------------------------------------------------------------- loops

// sums[c] += x - shift, squares[c] += (x - shift)^2 over rows of x (rows, channels).
FOR_EVERY_PROCESSOR void add_moments(const Bits* __restrict x, const float* __restrict shift, int64_t rows,
                                     int64_t channels, float* __restrict sums, float* __restrict squares) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4, x += 4 * channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float a = widen(x[c]) - shift[c], b = widen(x[channels + c]) - shift[c];
      const float d = widen(x[2 * channels + c]) - shift[c], e = widen(x[3 * channels + c]) - shift[c];
      sums[c] += (a + b) + (d + e);
      squares[c] += (a * a + b * b) + (d * d + e * e);
    }
  }
  for (; row < rows; ++row, x += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float a = widen(x[c]) - shift[c];
      sums[c] += a;
      squares[c] += a * a;
    }
  }
}

// y = x * factor + offset.
FOR_EVERY_PROCESSOR void scale_rows(const Bits* __restrict x, const float* __restrict factor,
                                    const float* __restrict offset, int64_t rows, int64_t channels,
                                    Bits* __restrict y) {
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    for (int64_t c = 0; c < channels; ++c) y[c] = narrow(widen(x[c]) * factor[c] + offset[c]);
  }
}

// sums[c] += upstream, products[c] += upstream * (x - mean).
FOR_EVERY_PROCESSOR void add_gradient_sums(const Bits* __restrict upstream, const Bits* __restrict x,
                                    const float* __restrict mean, int64_t rows, int64_t channels,
                                    float* __restrict sums, float* __restrict products) {
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2, x += 2 * channels, upstream += 2 * channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float a = widen(upstream[c]), b = widen(upstream[channels + c]);
      sums[c] += a + b;
      products[c] += a * (widen(x[c]) - mean[c]) + b * (widen(x[channels + c]) - mean[c]);
    }
  }
  for (; row < rows; ++row, x += channels, upstream += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float a = widen(upstream[c]);
      sums[c] += a;
      products[c] += a * (widen(x[c]) - mean[c]);
    }
  }
}

// gradient = upstream * factor + x * coefficient + constant; gradient may be upstream.
FOR_EVERY_PROCESSOR void normalization_gradient(const Bits* upstream, const Bits* __restrict x,
                                             const float* __restrict factor, const float* __restrict coefficient,
                                             const float* __restrict constant, int64_t rows, int64_t channels,
                                             Bits* gradient) {
  for (int64_t row = 0; row < rows; ++row, x += channels, upstream += channels, gradient += channels) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      gradient[c] = narrow(widen(upstream[c]) * factor[c] + widen(x[c]) * coefficient[c] + constant[c]);
    }
  }
}

// y = x where it is above zero or NaN, by its bits; y may be x.
FOR_EVERY_PROCESSOR void rectify(const Bits* x, int64_t count, Bits* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    const bool kept = (static_cast<int16_t>(x[i]) > 0) | ((x[i] & 0x7fff) > 0x7f80);
    y[i] = x[i] & static_cast<Bits>(-kept);
  }
}

// gradient = upstream where y is above zero; gradient may be upstream.
FOR_EVERY_PROCESSOR void relu_gradient(const Bits* upstream, const Bits* __restrict y, int64_t count, Bits* gradient) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    // By the bits: neither zero nor negative. (A NaN counts as above zero, and the upstream of one is NaN anyhow.)
    gradient[i] = upstream[i] & static_cast<Bits>(-(static_cast<int16_t>(y[i]) > 0));
  }
}

FOR_EVERY_PROCESSOR void scale_and_narrow(const float* __restrict x, float factor, int64_t count, Bits* __restrict y) {
  for (int64_t i = 0; i < count; ++i) y[i] = narrow(x[i] * factor);
}

constexpr int64_t kLanes = 32;

FOR_EVERY_PROCESSOR double dot(const Bits* __restrict x, const float* __restrict y, int64_t count) {
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += widen(x[i + lane]) * y[i + lane];
  }
  double total = 0;
  for (; i < count; ++i) total += widen(x[i]) * y[i];
  for (float sum : sums) total += sum;
  return total;
}

// For each row of the matrix: results[i] = <row, u>, and product += results[i] * row.
FOR_EVERY_PROCESSOR void multiply_both(const float* __restrict matrix, const float* __restrict u, int64_t rows,
                                       int64_t columns, float* __restrict results, float* __restrict product) {
  for (int64_t i = 0; i < rows; ++i, matrix += columns) {
    float sums[kLanes] = {};
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += matrix[j + lane] * u[j + lane];
    }
    float result = 0;
    for (; j < columns; ++j) result += matrix[j] * u[j];
    for (float sum : sums) result += sum;
    results[i] = result;
    for (j = 0; j < columns; ++j) product[j] += result * matrix[j];
  }
}

// gradient = upstream * factor - column row^T.
FOR_EVERY_PROCESSOR void subtract_outer(const Bits* __restrict upstream, float factor, const float* __restrict column,
                                        const float* __restrict row, int64_t rows, int64_t columns,
                                        float* __restrict gradient) {
  for (int64_t i = 0; i < rows; ++i, upstream += columns, gradient += columns) {
    const float coefficient = column[i];
    for (int64_t j = 0; j < columns; ++j) gradient[j] = widen(upstream[j]) * factor - coefficient * row[j];
  }
}

// ------------------------------------------------------------------------------------------------- operations

// Runs `work(begin, end)` over [0, count) on the threads that TensorFlow's own operations use.
void parallel_for(OpKernelContext* context, int64_t count, int64_t elements_each,
           const std::function<void(int64_t, int64_t)>& work) {
  auto* threads = context->device()->tensorflow_cpu_worker_threads()->workers;
  threads->ParallelFor(count, std::max<int64_t>(1, elements_each), work);
}

const Bits* bits(const Tensor& tensor) { return reinterpret_cast<const Bits*>(tensor.data()); }
Bits* bits(Tensor* tensor) { return reinterpret_cast<Bits*>(tensor->data()); }
const float* floats(const Tensor& tensor) { return static_cast<const float*>(tensor.data()); }
float* floats(Tensor* tensor) { return static_cast<float*>(tensor->data()); }

// A feature map (images, ..., channels), split into the parts that sums are made of.
struct Map {
  explicit Map(const TensorShape& shape)
      : channels(shape.dim_size(shape.dims() - 1)),
        images(shape.dim_size(0)),
        positions(shape.num_elements() ? shape.num_elements() / images / channels : 0) {
    pieces = std::clamp<int64_t>(16 / std::max<int64_t>(images, 1), 1, std::max<int64_t>(positions / 64, 1));
    rows = (positions + pieces - 1) / pieces;
  }
  int64_t parts() const { return images * pieces; }
  int64_t image(int64_t part) const { return part / pieces; }
  int64_t first(int64_t part) const { return image(part) * positions + begin(part); }
  int64_t size(int64_t part) const { return std::min(positions, begin(part) + rows) - begin(part); }
  double count() const { return static_cast<double>(images) * positions; }

  int64_t channels, images, positions, pieces, rows;

 private:
  int64_t begin(int64_t part) const { return std::min(positions, part % pieces * rows); }
};

// Checks that x is a feature map that is not empty, and that each of `rows` has one row for all images or one per
// image.
absl::Status check(const Tensor& x, std::initializer_list<const Tensor*> rows, const Tensor* upstream = nullptr) {
  if (x.dims() < 2 || !x.NumElements()) {
    return absl::InvalidArgumentError("The feature map must be (B, ..., C) and not empty: " + x.shape().DebugString());
  }
  for (const Tensor* row : rows) {
    const bool fits = row->dims() == 2 && (row->dim_size(0) == 1 || row->dim_size(0) == x.dim_size(0)) &&
                      row->dim_size(1) == x.dim_size(x.dims() - 1);
    if (!fits || row->shape() != (*rows.begin())->shape()) {
      return absl::InvalidArgumentError("The rows must fit the feature map: " + row->shape().DebugString());
    }
  }
  return !upstream || upstream->shape() == x.shape()
             ? absl::OkStatus()
             : absl::InvalidArgumentError("The upstream gradient must have the shape of the map: " +
                                          upstream->shape().DebugString());
}

// The mean of a few of `rows` rows. Sums relative to it lose no precision where the mean of all rows is large, even if
// some rows are far from it.
std::vector<float> rough_mean(const Bits* x, int64_t rows, int64_t channels) {
  std::vector<float> mean(channels);
  const int64_t count = std::min<int64_t>(64, rows);
  for (int64_t i = 0; i < count; ++i) {
    // Multiples of the golden ratio spread over the rows of an image and over its columns.
    const auto row = static_cast<int64_t>(std::fmod(i * 0.6180339887498949, 1.0) * rows);
    for (int64_t c = 0; c < channels; ++c) mean[c] += widen(x[row * channels + c]) / count;
  }
  return mean;
}

class Normalize : public OpKernel {
 public:
  explicit Normalize(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &scale = context->input(1), &offset = context->input(2);
    OP_REQUIRES_OK(context, check(x, {&scale, &offset}));
    const Map map(x.shape());
    const int64_t channels = map.channels, num_rows = scale.dim_size(0);
    Tensor *y, *mean, *variance;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({channels}), &mean));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({channels}), &variance));
    const Bits* from = bits(x);
    Bits* to = bits(y);

    const std::vector<float> shift = rough_mean(from, map.images * map.positions, channels);
    std::vector<float> partial(map.parts() * 2 * channels);
    parallel_for(context, map.parts(), map.rows * channels, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        float* sums = partial.data() + part * 2 * channels;
        add_moments(from + map.first(part) * channels, shift.data(), map.size(part), channels, sums, sums + channels);
      }
    });
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0, square = 0;
      for (int64_t part = 0; part < map.parts(); ++part) {
        sum += partial[part * 2 * channels + c];
        square += partial[(part * 2 + 1) * channels + c];
      }
      sum /= map.count();
      floats(mean)[c] = static_cast<float>(shift[c] + sum);
      floats(variance)[c] = static_cast<float>(std::max(0.0, square / map.count() - sum * sum));
    }

    std::vector<float> factors(num_rows * channels), offsets(num_rows * channels);
    for (int64_t i = 0; i < num_rows * channels; ++i) {
      factors[i] = floats(scale)[i] / std::sqrt(floats(variance)[i % channels] + epsilon_);
      offsets[i] = floats(offset)[i] - floats(mean)[i % channels] * factors[i];
    }
    parallel_for(context, map.parts(), map.rows * channels, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t row = num_rows == 1 ? 0 : map.image(part) * channels, first = map.first(part) * channels;
        scale_rows(from + first, &factors[row], &offsets[row], map.size(part), channels, to + first);
      }
    });
  }

 private:
  float epsilon_;
};

class NormalizeGrad : public OpKernel {
 public:
  explicit NormalizeGrad(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &upstream = context->input(0), &x = context->input(1), &scale = context->input(2);
    OP_REQUIRES_OK(context, check(x, {&scale}, &upstream));
    const Map map(x.shape());
    const int64_t channels = map.channels, num_rows = scale.dim_size(0);
    OP_REQUIRES(context,
                context->input(3).NumElements() == channels && context->input(4).NumElements() == channels,
                absl::InvalidArgumentError("There must be a mean and a variance for each channel."));
    const float *mean = floats(context->input(3)), *variance = floats(context->input(4));
    Tensor *gradient, *grad_scale, *grad_offset;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, x.shape(), &gradient));
    OP_REQUIRES_OK(context, context->allocate_output(1, scale.shape(), &grad_scale));
    OP_REQUIRES_OK(context, context->allocate_output(2, scale.shape(), &grad_offset));
    const Bits *from = bits(x), *upstream_bits = bits(upstream);
    Bits* to = bits(gradient);

    std::vector<float> partial(map.parts() * 2 * channels);
    parallel_for(context, map.parts(), map.rows * channels, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t first = map.first(part) * channels;
        float* sums = partial.data() + part * 2 * channels;
        add_gradient_sums(upstream_bits + first, from + first, mean, map.size(part), channels, sums, sums + channels);
      }
    });

    // With n = (x - mean) / deviation, and g = scale * upstream:
    // gradient = (g - mean(g) - n * mean(g * n)) / deviation.
    const int64_t parts_per_row = num_rows == 1 ? map.parts() : map.pieces;
    std::vector<float> factors(num_rows * channels), coefficients(channels), constants(channels);
    for (int64_t c = 0; c < channels; ++c) {
      const double inverse = 1 / std::sqrt(static_cast<double>(variance[c]) + epsilon_);
      double sums = 0, products = 0;
      for (int64_t row = 0; row < num_rows; ++row) {
        double sum = 0, product = 0;
        for (int64_t part = row * parts_per_row; part < (row + 1) * parts_per_row; ++part) {
          sum += partial[part * 2 * channels + c];
          product += partial[(part * 2 + 1) * channels + c];
        }
        const int64_t i = row * channels + c;
        floats(grad_offset)[i] = static_cast<float>(sum);
        floats(grad_scale)[i] = static_cast<float>(product * inverse);
        factors[i] = static_cast<float>(floats(scale)[i] * inverse);
        sums += sum * floats(scale)[i];
        products += product * floats(scale)[i];
      }
      const double x_coefficient = -products * inverse * inverse * inverse / map.count();
      coefficients[c] = static_cast<float>(x_coefficient);
      constants[c] = static_cast<float>(-sums * inverse / map.count() - x_coefficient * mean[c]);
    }
    parallel_for(context, map.parts(), map.rows * channels, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t row = num_rows == 1 ? 0 : map.image(part) * channels, first = map.first(part) * channels;
        normalization_gradient(upstream_bits + first, from + first, &factors[row], coefficients.data(),
                               constants.data(), map.size(part), channels, to + first);
      }
    });
  }

 private:
  float epsilon_;
};

constexpr int64_t kMapPart = 1 << 14;  // values

class Relu : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Tensor* y;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    const int64_t count = x.NumElements();
    parallel_for(context, (count + kMapPart - 1) / kMapPart, kMapPart / 4, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kMapPart, size = std::min(count, end * kMapPart) - first;
      rectify(bits(x) + first, size, bits(y) + first);
    });
  }
};

class ReluGrad : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &upstream = context->input(0), &y = context->input(1);
    OP_REQUIRES(context, upstream.shape() == y.shape(),
                absl::InvalidArgumentError("The upstream gradient must have the shape of the output."));
    Tensor* gradient;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, y.shape(), &gradient));
    const int64_t count = y.NumElements();
    parallel_for(context, (count + kMapPart - 1) / kMapPart, kMapPart / 4, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kMapPart, size = std::min(count, end * kMapPart) - first;
      relu_gradient(bits(upstream) + first, bits(y) + first, size, bits(gradient) + first);
    });
  }
};

class Patches : public OpKernel {
 public:
  explicit Patches(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("kernel_height", &kernel_height_));
    OP_REQUIRES_OK(context, context->GetAttr("kernel_width", &kernel_width_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    OP_REQUIRES(context, x.dims() == 4 && kernel_height_ % 2 && kernel_width_ % 2,
                absl::InvalidArgumentError("The map must be (B, H, W, C), and the kernel's height and width odd."));
    const int64_t height = x.dim_size(1), width = x.dim_size(2), channels = x.dim_size(3);
    const int64_t wide = kernel_height_ * kernel_width_ * channels;
    Tensor* y;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({x.dim_size(0), height, width, wide}), &y));
    parallel_for(context, x.dim_size(0) * height, width * wide / 2, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t image = row / height;
        Bits* to = bits(y) + row * width * wide;
        for (int64_t j = 0; j < width; ++j) {
          for (int64_t di = 0; di < kernel_height_; ++di) {
            const int64_t from_row = row % height + di - kernel_height_ / 2;
            for (int64_t dj = 0; dj < kernel_width_; ++dj, to += channels) {
              const int64_t from_column = j + dj - kernel_width_ / 2;
              if (from_row < 0 || from_row >= height || from_column < 0 || from_column >= width) {
                std::fill_n(to, channels, Bits{0});
              } else {
                std::copy_n(bits(x) + ((image * height + from_row) * width + from_column) * channels, channels, to);
              }
            }
          }
        }
      }
    });
  }

 private:
  int64_t kernel_height_, kernel_width_;
};

constexpr int64_t kKernelPart = 1 << 15;  // entries

class SingularVectors : public OpKernel {
 public:
  explicit SingularVectors(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("iterations", &iterations_));
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &matrix = context->input(0), &start = context->input(1);
    OP_REQUIRES(context, matrix.dims() == 2 && start.NumElements() == matrix.dim_size(1),
                absl::InvalidArgumentError("The vector must have an entry for each column of the matrix."));
    const int64_t rows = matrix.dim_size(0), columns = matrix.dim_size(1);
    Tensor *u, *v, *sigma;
    OP_REQUIRES_OK(context, context->allocate_output(0, start.shape(), &u));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({rows}), &v));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({}), &sigma));
    std::copy_n(floats(start), columns, floats(u));

    const int64_t each = std::max<int64_t>(1, kKernelPart / std::max<int64_t>(1, columns));
    const int64_t parts = (rows + each - 1) / each;
    std::vector<double> product(columns);
    double largest = 0;
    for (int iteration = 0; iteration < iterations_; ++iteration) {
      // The product with W uses W^T u before it is normalized, so that one pass over W is enough; the norm is a factor.
      std::vector<float> partial(parts * columns);
      parallel_for(context, parts, each * columns, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
          multiply_both(floats(matrix) + part * each * columns, floats(u), std::min(each, rows - part * each), columns,
                        floats(v) + part * each, partial.data() + part * columns);
        }
      });
      const double inverse = 1 / (norm(floats(v), rows) + epsilon_);
      for (int64_t i = 0; i < rows; ++i) floats(v)[i] = static_cast<float>(floats(v)[i] * inverse);
      std::fill(product.begin(), product.end(), 0.0);
      for (int64_t part = 0; part < parts; ++part) {
        for (int64_t j = 0; j < columns; ++j) product[j] += partial[part * columns + j];
      }
      for (double& value : product) value *= inverse;
      const double length = norm(product.data(), columns);
      largest = 0;
      for (int64_t j = 0; j < columns; ++j) {
        // A zero kernel must not wipe u out: it would stay zero for ever.
        if (length > epsilon_) floats(u)[j] = static_cast<float>(product[j] / (length + epsilon_));
        largest += floats(u)[j] * product[j];
      }
    }
    floats(sigma)[0] = static_cast<float>(largest);
  }

 private:
  template <class Number>
  static double norm(const Number* values, int64_t count) {
    double square = 0;
    for (int64_t i = 0; i < count; ++i) square += static_cast<double>(values[i]) * values[i];
    return std::sqrt(square);
  }

  int iterations_;
  float epsilon_;
};

class ScaleKernel : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& kernel = context->input(0);
    OP_REQUIRES(context, context->input(1).NumElements() == 1,
                absl::InvalidArgumentError("The factor must be a scalar."));
    Tensor* scaled;
    OP_REQUIRES_OK(context, context->allocate_output(0, kernel.shape(), &scaled));
    const float factor = floats(context->input(1))[0];
    const int64_t count = kernel.NumElements();
    parallel_for(context, (count + kKernelPart - 1) / kKernelPart, kKernelPart, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kKernelPart, size = std::min(count, end * kKernelPart) - first;
      scale_and_narrow(floats(kernel) + first, factor, size, bits(scaled) + first);
    });
  }
};

class ScaleKernelGrad : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &upstream = context->input(0), &kernel = context->input(1);
    const bool fits = kernel.dims() == 2 && upstream.shape() == kernel.shape() &&
                      context->input(2).NumElements() == 1 && context->input(3).NumElements() == 1 &&
                      context->input(4).NumElements() == kernel.dim_size(0) &&
                      context->input(5).NumElements() == kernel.dim_size(1);
    OP_REQUIRES(context, fits, absl::InvalidArgumentError("The kernel's gradient, column and row must fit it."));
    const float *factor = floats(context->input(2)), *coefficient = floats(context->input(3));
    const float *column = floats(context->input(4)), *row = floats(context->input(5));
    const int64_t rows = kernel.dim_size(0), columns = kernel.dim_size(1), count = rows * columns;
    Tensor* gradient;
    OP_REQUIRES_OK(context, context->allocate_output(0, kernel.shape(), &gradient));

    const int64_t parts = (count + kKernelPart - 1) / kKernelPart;
    std::vector<double> partial(parts);
    parallel_for(context, parts, kKernelPart, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t first = part * kKernelPart;
        partial[part] = dot(bits(upstream) + first, floats(kernel) + first, std::min(kKernelPart, count - first));
      }
    });
    double product = 0;
    for (double value : partial) product += value;
    std::vector<float> scaled(rows);
    for (int64_t i = 0; i < rows; ++i) scaled[i] = static_cast<float>(column[i] * (product * *coefficient));
    const int64_t each = std::max<int64_t>(1, kKernelPart / std::max<int64_t>(1, columns));
    parallel_for(context, (rows + each - 1) / each, each * columns, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * each, size = std::min(rows, end * each) - first;
      subtract_outer(bits(upstream) + first * columns, *factor, scaled.data() + first, row, size, columns,
                     floats(gradient) + first * columns);
    });
  }
};

absl::Status as_input(InferenceContext* context, int output, int input) {
  context->set_output(output, context->input(input));
  return absl::OkStatus();
}

absl::Status channels_of(InferenceContext* context, int output) {
  ShapeHandle map;
  TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(0), 2, &map));
  context->set_output(output, context->Vector(context->Dim(map, -1)));
  return absl::OkStatus();
}

}  // namespace

// Symbols: B images, C channels, P rows of a kernel's matrix, F columns; R is B or 1.

// x (B, ..., C), scale and offset (R, C) -> x normalized by the statistics of the batch, scaled and shifted
// (B, ..., C); mean (C,); variance (C,).
REGISTER_OP("SaganTfNormalize")
    .Input("x: bfloat16")
    .Input("scale: float")
    .Input("offset: float")
    .Attr("epsilon: float")
    .Output("y: bfloat16")
    .Output("mean: float")
    .Output("variance: float")
    .SetShapeFn([](InferenceContext* context) {
      TF_RETURN_IF_ERROR(as_input(context, 0, 0));
      TF_RETURN_IF_ERROR(channels_of(context, 1));
      return channels_of(context, 2);
    });

// Upstream gradient of y, inputs and outputs of SaganTfNormalize -> gradients of x, scale and offset.
REGISTER_OP("SaganTfNormalizeGrad")
    .Input("upstream: bfloat16")
    .Input("x: bfloat16")
    .Input("scale: float")
    .Input("mean: float")
    .Input("variance: float")
    .Attr("epsilon: float")
    .Output("grad_x: bfloat16")
    .Output("grad_scale: float")
    .Output("grad_offset: float")
    .SetShapeFn([](InferenceContext* context) {
      TF_RETURN_IF_ERROR(as_input(context, 0, 1));
      TF_RETURN_IF_ERROR(as_input(context, 1, 2));
      return as_input(context, 2, 2);
    });

REGISTER_OP("SaganTfRelu").Input("x: bfloat16").Output("y: bfloat16").SetShapeFn([](InferenceContext* context) {
  return as_input(context, 0, 0);
});

// upstream where y, of the same shape, is positive, else zero.
REGISTER_OP("SaganTfReluGrad")
    .Input("upstream: bfloat16")
    .Input("y: bfloat16")
    .Output("grad_x: bfloat16")
    .SetShapeFn([](InferenceContext* context) { return as_input(context, 0, 1); });

// x (B, H, W, C) -> what a kernel covers at each position, with zero padding:
// (B, H, W, kernel_height * kernel_width * C).
REGISTER_OP("SaganTfPatches")
    .Input("x: bfloat16")
    .Attr("kernel_height: int >= 1")
    .Attr("kernel_width: int >= 1")
    .Output("y: bfloat16")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle map, wide;
      DimensionHandle channels;
      int64_t height, width;
      TF_RETURN_IF_ERROR(context->GetAttr("kernel_height", &height));
      TF_RETURN_IF_ERROR(context->GetAttr("kernel_width", &width));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &map));
      TF_RETURN_IF_ERROR(context->Multiply(context->Dim(map, 3), height * width, &channels));
      TF_RETURN_IF_ERROR(context->ReplaceDim(map, 3, channels, &wide));
      context->set_output(0, wide);
      return absl::OkStatus();
    });

// Matrix W^T (P, F) and u (F,) -> u (F,), v (P,) and sigma () after `iterations` power iterations.
REGISTER_OP("SaganTfSingularVectors")
    .Input("matrix: float")
    .Input("start: float")
    .Attr("iterations: int >= 1")
    .Attr("epsilon: float")
    .Output("u: float")
    .Output("v: float")
    .Output("sigma: float")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle matrix;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 2, &matrix));
      context->set_output(1, context->Vector(context->Dim(matrix, 0)));
      context->set_output(2, context->Scalar());
      return as_input(context, 0, 1);
    });

// kernel times factor ().
REGISTER_OP("SaganTfScaleKernel")
    .Input("kernel: float")
    .Input("factor: float")
    .Output("scaled: bfloat16")
    .SetShapeFn([](InferenceContext* context) { return as_input(context, 0, 0); });

// Upstream G and kernel W (P, F), factor and coefficient (), column (P,), row (F,) ->
// G * factor - <G, W> * coefficient * column row^T.
REGISTER_OP("SaganTfScaleKernelGrad")
    .Input("upstream: bfloat16")
    .Input("kernel: float")
    .Input("factor: float")
    .Input("coefficient: float")
    .Input("column: float")
    .Input("row: float")
    .Output("grad_kernel: float")
    .SetShapeFn([](InferenceContext* context) { return as_input(context, 0, 1); });

#define FOR_CPU(name, type) REGISTER_KERNEL_BUILDER(Name(name).Device(tensorflow::DEVICE_CPU), type)
FOR_CPU("SaganTfNormalize", Normalize);
FOR_CPU("SaganTfNormalizeGrad", NormalizeGrad);
FOR_CPU("SaganTfRelu", Relu);
FOR_CPU("SaganTfReluGrad", ReluGrad);
FOR_CPU("SaganTfPatches", Patches);
FOR_CPU("SaganTfSingularVectors", SingularVectors);
FOR_CPU("SaganTfScaleKernel", ScaleKernel);
FOR_CPU("SaganTfScaleKernelGrad", ScaleKernelGrad);
