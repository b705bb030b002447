#include "primitives.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "kernels.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"

namespace kernels {

namespace {

// For MLX's macros, which are written for its own namespace.
using mx::array;
using mx::Shape;

using Arrays = std::vector<array>;

// A primitive that runs `compute` on pointers. Its inputs are row-contiguous: see `rows`.
class CpuPrimitive : public mx::Primitive {
 public:
  CpuPrimitive() : Primitive(mx::default_stream(mx::Device::cpu)) {}

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    auto& encoder = mx::cpu::get_command_encoder(stream());
    std::vector<const float*> from;
    std::vector<float*> to;
    for (const auto& input : inputs) {
      encoder.set_input_array(input);
      from.push_back(input.data<float>());
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      auto& output = outputs[i];
      if (i == 0 && overwrites_first_input() && inputs[0].is_donatable()) {
        output.copy_shared_buffer(inputs[0]);
      } else {
        output.set_data(mx::allocator::malloc(output.nbytes()));
      }
      encoder.set_output_array(output);
      to.push_back(output.data<float>());
    }
    // MLX keeps inputs and outputs alive until the stream has run what is dispatched here.
    encoder.dispatch(compute(inputs, std::move(from), std::move(to)));
  }

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error(std::string(name()) + " runs on the CPU only.");
  }

 protected:
  // What to run, once the pointers' data is there.
  virtual std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) = 0;

  virtual bool overwrites_first_input() const { return false; }
};

NumberType type_of(const mx::array& w) {
  if (w.dtype() == mx::float32) {
    return NumberType::float32;
  }
  if (w.dtype() == mx::float16) {
    return NumberType::float16;
  }
  if (w.dtype() == mx::bfloat16) {
    return NumberType::bfloat16;
  }
  throw std::invalid_argument("The CPU kernels multiply by no such weights.");
}

mx::array rows(const mx::array& x) {
  if (x.dtype() != mx::float32) {
    throw std::invalid_argument("The CPU kernels compute in float32.");
  }
  return mx::contiguous(x);
}

// A frozen weight, of any type that `type_of` knows.
mx::array weights(const mx::array& w) {
  type_of(w);
  return mx::contiguous(w);
}

mx::array of(const mx::array& like, std::shared_ptr<mx::Primitive> primitive, Arrays inputs) {
  return mx::array(like.shape(), like.dtype(), std::move(primitive), std::move(inputs));
}

// Of all inputs' gradients those that are asked for.
Arrays asked_for(const Arrays& gradients, const std::vector<int>& argnums) {
  Arrays asked;
  for (int number : argnums) {
    asked.push_back(gradients.at(number));
  }
  return asked;
}

// As many threads as MLX's own products have: OpenBLAS's, if that is what MLX computes with.
extern "C" __attribute__((weak)) int openblas_get_num_threads();

// Of a thread that is worth its start: rows, or multiplications where the rows are few.
constexpr int least_rows = 64, least_multiplications = 1 << 20;

// Calls compute(first, size) on parts of `whole`, at least `least` each, in threads of their own.
template <typename Compute>
void in_threads(int whole, int least, Compute compute) {
  const int wanted = openblas_get_num_threads ? openblas_get_num_threads() : 1;
  const int count = std::max(1, std::min(wanted, whole / least));
  const auto first = [=](int number) { return static_cast<int>(std::int64_t{whole} * number / count); };
  std::vector<std::thread> threads;
  for (int number = 1; number < count; ++number) {
    threads.emplace_back([=] { compute(first(number), first(number + 1) - first(number)); });
  }
  compute(0, first(1));
  for (auto& thread : threads) {
    thread.join();
  }
}

// Of x [tokens, in], w [out, in] and perhaps a [in, rank], b [rank, out].
LinearShape linear_shape(const Arrays& inputs, float scale) {
  const auto &x = inputs[0], &w = inputs[1];
  const int rank = inputs.size() > 2 ? inputs[2].shape(1) : 0;
  return {x.shape(0), x.shape(1), w.shape(0), rank, scale, type_of(w)};
}

// Inputs x, w, a, b, low, dY; outputs dA, dB and, where it is asked for, dX.
class LinearGradient : public CpuPrimitive {
 public:
  explicit LinearGradient(float scale) : scale_(scale) {}
  DEFINE_NAME(LinearGradient)

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [whole = linear_shape(inputs, scale_), in = std::move(from), out = std::move(to)] {
      const float *x = in[0], *w = in[1], *a = in[2], *b = in[3], *low = in[4], *d_y = in[5];
      std::vector<float> d_low(static_cast<std::size_t>(whole.tokens) * whole.rank);
      in_threads(whole.tokens, least_rows, [&](int first, int count) {
        auto some = whole;
        some.tokens = count;
        const std::int64_t row = first;
        float* d_x = out.size() > 2 ? out[2] + row * some.in : nullptr;
        chosen().linear_gradient(
            some, w, a, b, d_y + row * some.out, d_low.data() + row * some.rank, d_x);
      });
      chosen().factor_gradients(whole, x, low, d_y, d_low.data(), out[0], out[1]);
    };
  }

 private:
  float scale_;
};

// Of a layer without factors: inputs w, dY; output dX.
class PlainLinearGradient : public CpuPrimitive {
 public:
  DEFINE_NAME(PlainLinearGradient)

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const auto &w = inputs[0], &d_y = inputs[1];
    const LinearShape whole{d_y.shape(0), w.shape(1), w.shape(0), 0, 1.0f, type_of(w)};
    return [=, in = std::move(from), out = std::move(to)] {
      in_threads(whole.tokens, least_rows, [&](int first, int count) {
        auto some = whole;
        some.tokens = count;
        const std::int64_t row = first;
        chosen().linear_gradient(
            some, in[0], nullptr, nullptr, in[1] + row * some.out, nullptr, out[0] + row * some.in);
      });
    };
  }
};

// Inputs x, w and, of a layer with factors, a, b; outputs y and, with factors, low.
class Linear : public CpuPrimitive {
 public:
  explicit Linear(float scale) : scale_(scale) {}
  DEFINE_NAME(Linear)

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays& outputs) override {
    if (std::find(argnums.begin(), argnums.end(), 1) != argnums.end()) {
      throw std::invalid_argument("The weights of a linear layer here are frozen.");
    }
    const auto &x = primals[0], &w = primals[1];
    const auto d_y = rows(cotangents[0]);
    if (primals.size() == 2) {
      return {of(x, std::make_shared<PlainLinearGradient>(), {w, d_y})};
    }
    std::vector<mx::Shape> shapes{primals[2].shape(), primals[3].shape()};
    if (std::find(argnums.begin(), argnums.end(), 0) != argnums.end()) {
      shapes.push_back(x.shape());
    }
    const auto gradients = mx::array::make_arrays(
        shapes,
        std::vector<mx::Dtype>(shapes.size(), mx::float32),
        std::make_shared<LinearGradient>(scale_),
        {x, w, primals[2], primals[3], outputs[1], d_y});
    Arrays asked;
    for (int number : argnums) {
      asked.push_back(gradients[number == 0 ? 2 : number - 2]);
    }
    return asked;
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [whole = linear_shape(inputs, scale_), in = std::move(from), out = std::move(to)] {
      const float *x = in[0], *w = in[1], *a = nullptr, *b = nullptr;
      float *y = out[0], *low = nullptr;
      if (whole.rank) {
        a = in[2], b = in[3], low = out[1];
      }
      if (whole.tokens < 2 * least_rows) {
        if (whole.rank) {
          chosen().linear_down(whole, x, a, low);
        }
        const int least = std::max(1, least_multiplications / std::max(1, whole.in * whole.tokens));
        in_threads(whole.out, least, [&](int first, int count) {
          chosen().linear_up(whole, first, count, x, w, b, low, y);
        });
        return;
      }
      in_threads(whole.tokens, least_rows, [&](int first, int count) {
        auto some = whole;
        some.tokens = count;
        const std::int64_t row = first;
        const float* some_x = x + row * some.in;
        float* some_low = low + row * some.rank;
        if (whole.rank) {
          chosen().linear_down(some, some_x, a, some_low);
        }
        chosen().linear_up(some, 0, some.out, some_x, w, b, some_low, y + row * some.out);
      });
    };
  }

 private:
  float scale_;
};

// The shape of an attention, with the lengths that it points to.
struct Heads {
  std::vector<int> lengths;
  int heads, groups, size;
  float scale;
  int window;

  AttentionShape shape() const {
    return {lengths.data(), static_cast<int>(lengths.size()), heads, groups, size, scale, window};
  }
};

class AttentionGradient : public CpuPrimitive {
 public:
  explicit AttentionGradient(Heads heads) : heads_(std::move(heads)) {}
  DEFINE_NAME(AttentionGradient)

 protected:
  std::function<void()> compute(
      const Arrays&, std::vector<const float*> from, std::vector<float*> to) override {
    return [heads = heads_, in = std::move(from), out = std::move(to)] {
      chosen().attention_gradient(heads.shape(), in[0], in[1], in[2], in[3], in[4], in[5], out[0], out[1], out[2]);
    };
  }

 private:
  Heads heads_;
};

// On [tokens, heads, size], where a head's rows are what its linear layer wrote.
class Attention : public CpuPrimitive {
 public:
  explicit Attention(Heads heads) : heads_(std::move(heads)) {}
  DEFINE_NAME(Attention)

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays& outputs) override {
    const auto &q = primals[0], &k = primals[1], &v = primals[2];
    const auto gradients = mx::array::make_arrays(
        {q.shape(), k.shape(), v.shape()},
        {mx::float32, mx::float32, mx::float32},
        std::make_shared<AttentionGradient>(heads_),
        {q, k, v, outputs[0], outputs[1], rows(cotangents[0])});
    return asked_for(gradients, argnums);
  }

 protected:
  std::function<void()> compute(
      const Arrays&, std::vector<const float*> from, std::vector<float*> to) override {
    return [heads = heads_, in = std::move(from), out = std::move(to)] {
      chosen().attention(heads.shape(), in[0], in[1], in[2], out[0], out[1]);
    };
  }

 private:
  Heads heads_;
};

class SwigluGradient : public CpuPrimitive {
 public:
  DEFINE_NAME(SwigluGradient)

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [count = inputs[0].size(), in = std::move(from), out = std::move(to)] {
      chosen().swiglu_gradient(in[0], in[1], in[2], out[0], out[1], count);
    };
  }
};

class Swiglu : public CpuPrimitive {
 public:
  DEFINE_NAME(Swiglu)
  DEFINE_INPUT_OUTPUT_SHAPE()

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays&) override {
    const auto gradients = mx::array::make_arrays(
        {primals[0].shape(), primals[1].shape()},
        {mx::float32, mx::float32},
        std::make_shared<SwigluGradient>(),
        {primals[0], primals[1], rows(cotangents[0])});
    return asked_for(gradients, argnums);
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [count = inputs[0].size(), in = std::move(from), out = std::move(to)] {
      chosen().swiglu(in[0], in[1], out[0], count);
    };
  }
};

class GeluGradient : public CpuPrimitive {
 public:
  DEFINE_NAME(GeluGradient)
  DEFINE_INPUT_OUTPUT_SHAPE()

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [count = inputs[0].size(), in = std::move(from), out = std::move(to)] {
      chosen().gelu_gradient(in[0], in[1], out[0], count);
    };
  }
};

class Gelu : public CpuPrimitive {
 public:
  DEFINE_NAME(Gelu)
  DEFINE_INPUT_OUTPUT_SHAPE()

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>&,
      const Arrays&) override {
    return {of(primals[0], std::make_shared<GeluGradient>(), {primals[0], rows(cotangents[0])})};
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    return [count = inputs[0].size(), in = std::move(from), out = std::move(to)] {
      chosen().gelu(in[0], out[0], count);
    };
  }
};

class RmsNormGradient : public CpuPrimitive {
 public:
  explicit RmsNormGradient(float eps) : eps_(eps) {}
  DEFINE_NAME(RmsNormGradient)

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const std::int64_t width = inputs[1].size(), count = inputs[0].size() / width;
    return [=, eps = eps_, in = std::move(from), out = std::move(to)] {
      float* d_weight = out.size() > 1 ? out[1] : nullptr;
      chosen().rms_norm_gradient(in[0], in[1], in[2], out[0], d_weight, count, width, eps);
    };
  }

 private:
  float eps_;
};

class RmsNorm : public CpuPrimitive {
 public:
  explicit RmsNorm(float eps) : eps_(eps) {}
  DEFINE_NAME(RmsNorm)
  DEFINE_INPUT_OUTPUT_SHAPE()

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays&) override {
    const auto &x = primals[0], &weight = primals[1];
    const auto gradient = std::make_shared<RmsNormGradient>(eps_);
    Arrays inputs{x, weight, rows(cotangents[0])};
    if (argnums == std::vector<int>{0}) {  // the weight is frozen
      return {of(x, gradient, std::move(inputs))};
    }
    const auto gradients = mx::array::make_arrays(
        {x.shape(), weight.shape()}, {mx::float32, mx::float32}, gradient, std::move(inputs));
    return asked_for(gradients, argnums);
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const std::int64_t width = inputs[1].size(), count = inputs[0].size() / width;
    return [=, eps = eps_, in = std::move(from), out = std::move(to)] {
      chosen().rms_norm(in[0], in[1], out[0], count, width, eps);
    };
  }

 private:
  float eps_;
};

// On x [tokens, heads, size] with cosines and sines [tokens, half].
class Rotary : public CpuPrimitive {
 public:
  explicit Rotary(float direction) : direction_(direction) {}
  DEFINE_NAME(Rotary)
  DEFINE_INPUT_OUTPUT_SHAPE()

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays&) override {
    if (argnums != std::vector<int>{0}) {
      throw std::invalid_argument("Rotary angles have no gradient.");
    }
    const auto back = std::make_shared<Rotary>(-direction_);
    return {of(primals[0], back, {rows(cotangents[0]), primals[1], primals[2]})};
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const std::int64_t tokens = inputs[0].shape(0), heads = inputs[0].shape(1);
    const std::int64_t size = inputs[0].shape(2), half = inputs[1].shape(1);
    return [=, direction = direction_, in = std::move(from), out = std::move(to)] {
      chosen().rotary(in[0], in[1], in[2], out[0], tokens, heads, size, half, direction);
    };
  }

 private:
  float direction_;
};

class CrossEntropyGradient : public CpuPrimitive {
 public:
  DEFINE_NAME(CrossEntropyGradient)

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const std::int64_t count = inputs[0].shape(0), width = inputs[0].shape(1);
    const auto targets = inputs[1].data<std::int32_t>();
    return [=, in = std::move(from), out = std::move(to)] {
      chosen().cross_entropy_gradient(in[0], targets, in[2], in[3], out[0], count, width);
    };
  }

  bool overwrites_first_input() const override { return true; }
};

class CrossEntropy : public CpuPrimitive {
 public:
  DEFINE_NAME(CrossEntropy)

  Arrays vjp(
      const Arrays& primals,
      const Arrays& cotangents,
      const std::vector<int>& argnums,
      const Arrays& outputs) override {
    const auto gradient = std::make_shared<CrossEntropyGradient>();
    const auto d_logits =
        of(primals[0], gradient, {primals[0], primals[1], outputs[1], rows(cotangents[0])});
    return asked_for({d_logits, mx::zeros_like(primals[1])}, argnums);
  }

 protected:
  std::function<void()> compute(
      const Arrays& inputs, std::vector<const float*> from, std::vector<float*> to) override {
    const std::int64_t count = inputs[0].shape(0), width = inputs[0].shape(1);
    const auto targets = inputs[1].data<std::int32_t>();
    return [=, in = std::move(from), out = std::move(to)] {
      chosen().cross_entropy(in[0], targets, out[0], out[1], count, width);
    };
  }
};

// [1, heads, tokens, size] as [tokens, heads, size], as a linear layer wrote it, and back.
mx::array by_token(const mx::array& x) {
  return rows(mx::transpose(mx::squeeze(x, 0), {1, 0, 2}));
}

mx::array by_head(const mx::array& x) {
  return mx::expand_dims(mx::transpose(x, {1, 0, 2}), 0);
}

}  // namespace

mx::array linear(const mx::array& x, const mx::array& w) {
  const mx::Shape shape{x.shape(0), w.shape(0)};
  return mx::array(
      shape, mx::float32, std::make_shared<Linear>(1.0f), Arrays{rows(x), weights(w)});
}

mx::array linear_with_factors(
    const mx::array& x, const mx::array& w, const mx::array& a, const mx::array& b, float scale) {
  const int tokens = x.shape(0);
  const auto outputs = mx::array::make_arrays(
      {{tokens, w.shape(0)}, {tokens, a.shape(1)}},
      {mx::float32, mx::float32},
      std::make_shared<Linear>(scale),
      {rows(x), weights(w), rows(a), rows(b)});
  return outputs[0];
}

mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const std::vector<int>& lengths,
    float scale,
    int window) {
  Heads heads{lengths, q.shape(1), k.shape(1), q.shape(3), scale, window};
  const auto q_rows = by_token(q);
  const auto outputs = mx::array::make_arrays(
      {q_rows.shape(), {q.shape(2), q.shape(1)}},
      {mx::float32, mx::float32},
      std::make_shared<Attention>(std::move(heads)),
      {q_rows, by_token(k), by_token(v)});
  return by_head(outputs[0]);
}

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  return of(gate, std::make_shared<Swiglu>(), {rows(gate), rows(up)});
}

mx::array gelu(const mx::array& x) {
  return of(x, std::make_shared<Gelu>(), {rows(x)});
}

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  return of(x, std::make_shared<RmsNorm>(eps), {rows(x), rows(weight)});
}

mx::array rotary(const mx::array& x, const mx::array& cosines, const mx::array& sines) {
  const auto turned = by_token(x);
  return by_head(of(turned, std::make_shared<Rotary>(1.0f), {turned, rows(cosines), rows(sines)}));
}

mx::array cross_entropy(const mx::array& logits, const mx::array& targets) {
  const auto outputs = mx::array::make_arrays(
      {{logits.shape(0)}, {logits.shape(0)}},
      {mx::float32, mx::float32},
      std::make_shared<CrossEntropy>(),
      {rows(logits), mx::contiguous(mx::astype(targets, mx::int32))});
  return outputs[0];
}

}  // namespace kernels
