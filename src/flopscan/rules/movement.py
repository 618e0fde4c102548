"""Operators that move or make numbers without arithmetic: bytes and nothing else. The reason stands by each group."""

from __future__ import annotations

from collections.abc import Callable

from flopscan.core.cost import ZERO
from flopscan.core.rule import moved
from flopscan.core.trace import Call, TensorSpec, itemsize
from flopscan.rules import rule


def _moves(reason: str, how: Callable[[Call], tuple[int, int]], *ops: str) -> None:
    rule(*ops, source=reason, moves=how, complex=lambda cost: cost)(lambda: ZERO)


def touched(call: Call) -> tuple[int, int]:
    """What is read is what is written, and the indices: rows of a table that nobody asks for stay where they are."""
    written = sum(t.nbytes for t in call.outputs)
    table = call.get("weight") or call.get("self") or call.get("input")
    whole = sum(t.nbytes for t in call.tensors()) - (table.nbytes if isinstance(table, TensorSpec) else 0)
    return whole + written, written


def filled(call: Call) -> tuple[int, int]:
    """Nothing is read; the result is written, or the first operand (a tensor or a list) that an operator fills."""
    if call.outputs:
        return 0, sum(t.nbytes for t in call.outputs)
    target = call.get("self", ())
    return 0, sum(t.nbytes for t in (target if isinstance(target, tuple) else (target,)))


def copied(call: Call) -> tuple[int, int]:
    """The result is read from somewhere inside the operand and written."""
    size = sum(t.nbytes for t in call.outputs)
    return size, size


def overwritten(call: Call) -> tuple[int, int]:
    """The source is read in its dtype, the first operand is written."""
    source, target = call["src"], call["self"]
    sources = source if isinstance(source, tuple) else (source,)
    targets = target if isinstance(target, tuple) else (target,)
    return sum(t.nbytes for t in sources), sum(t.nbytes for t in targets)


def scattered(call: Call) -> tuple[int, int]:
    """In place only what the indices reach is written; otherwise the whole operand is copied as well."""
    read, written = moved(call)
    if not call.op.endswith("_"):
        return read, written
    target = call["self"]
    source = call.get("src") or call.get("source") or call.get("values")
    index = call.get("index")
    if isinstance(source, TensorSpec):
        size = source.numel * itemsize(target.dtype)
    else:
        size = (index.numel if isinstance(index, TensorSpec) else target.numel) * itemsize(target.dtype)
    return read - target.nbytes, min(size, target.nbytes)


_moves(
    "values are copied", moved,
    "aten::clone", "aten::contiguous", "aten::_to_copy", "aten::to", "aten::type_as", "aten::cat",
    "aten::concat", "aten::concatenate", "aten::stack", "aten::_stack", "aten::hstack", "aten::vstack", "aten::dstack",
    "aten::column_stack", "aten::row_stack", "aten::block_diag", "aten::_chunk_cat", "aten::repeat", "aten::tile",
    "aten::repeat_interleave", "aten::roll", "aten::flip", "aten::fliplr", "aten::flipud", "aten::rot90", "aten::tril",
    "aten::triu", "aten::diag_embed", "aten::diagflat", "aten::diag", "aten::constant_pad_nd", "aten::pad",
    "aten::_pad_circular", "aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle",
    "aten::native_channel_shuffle", "aten::reflection_pad1d", "aten::reflection_pad2d", "aten::reflection_pad3d",
    "aten::replication_pad1d", "aten::replication_pad2d", "aten::replication_pad3d", "aten::select_backward",
    "aten::slice_backward", "aten::diagonal_backward", "aten::value_selecting_reduction_backward",
    "aten::as_strided_scatter", "aten::slice_scatter", "aten::select_scatter", "aten::diagonal_scatter",
    "aten::masked_select", "aten::masked_scatter", "aten::masked_scatter_backward", "aten::unfold_copy",
    "aten::resolve_conj", "aten::resolve_neg", "aten::_conj_copy", "aten::conj_physical",
    "aten::lift_fresh_copy", "aten::detach_copy", "aten::alias_copy", "aten::_copy_from", "aten::_copy_from_and_resize",
    "aten::_pin_memory", "aten::_lazy_clone", "aten::_foreach_clone", "aten::linalg_vander", "aten::cartesian_prod",
    "aten::combinations", "aten::meshgrid", "aten::lu_unpack", "aten::_cudnn_rnn_flatten_weight",
    "aten::_to_dense", "aten::to_dense", "aten::to_sparse", "aten::_to_sparse", "aten::_to_sparse_csr",
    "aten::_to_sparse_csc", "aten::_to_sparse_bsr", "aten::_to_sparse_bsc", "aten::to_mkldnn", "aten::to_padded_tensor",
    "aten::mkldnn_reorder_conv2d_weight", "aten::mkldnn_reorder_conv3d_weight", "aten::_pack_padded_sequence",
    "aten::_nested_from_padded", "aten::_nested_tensor_from_mask", "aten::_nested_tensor_from_tensor_list",
    "aten::_jagged_to_padded_dense_forward", "aten::_padded_dense_to_jagged_forward",
    "aten::_convert_weight_to_int4pack", "aten::_convert_weight_to_int4pack_for_cpu",
)  # fmt: skip
_moves(
    "a part or another order of the operand is copied", copied,
    "aten::view_copy", "aten::_reshape_alias_copy", "aten::_reshape_copy", "aten::t_copy", "aten::transpose_copy",
    "aten::permute_copy", "aten::expand_copy", "aten::squeeze_copy", "aten::unsqueeze_copy", "aten::select_copy",
    "aten::slice_copy", "aten::narrow_copy", "aten::split_copy", "aten::split_with_sizes_copy", "aten::unbind_copy",
    "aten::as_strided_copy", "aten::diagonal_copy", "aten::values_copy", "aten::_values_copy", "aten::indices_copy",
    "aten::_indices_copy", "aten::crow_indices_copy", "aten::col_indices_copy", "aten::ccol_indices_copy",
    "aten::row_indices_copy", "aten::_fw_primal_copy", "aten::_make_dual_copy", "aten::_neg_view_copy",
    "aten::_nested_get_values_copy", "aten::_mkldnn_reshape", "aten::_mkldnn_transpose",
    "aten::view_as_real_copy", "aten::view_as_complex_copy",
)  # fmt: skip
_moves(
    "values are looked up", touched,
    "aten::embedding", "aten::index_select", "aten::gather", "aten::take", "aten::take_along_dim", "aten::index",
    "aten::_unsafe_index", "aten::_unsafe_masked_index", "aten::max_unpool2d", "aten::max_unpool3d",
)  # fmt: skip
_moves("values are copied over others", overwritten, "aten::copy", "aten::_foreach_copy")
_moves(
    "values are put where the indices say", scattered,
    "aten::index_copy", "aten::index_fill",
)  # fmt: skip
_moves(
    "constants are written", filled,
    "aten::fill", "aten::zero", "aten::zeros", "aten::zeros_like", "aten::new_zeros", "aten::ones", "aten::ones_like",
    "aten::new_ones", "aten::full", "aten::full_like", "aten::new_full", "aten::scalar_tensor", "aten::eye",
    "aten::arange", "aten::range", "aten::linspace", "aten::logspace", "aten::tril_indices", "aten::triu_indices",
    "aten::fill_diagonal", "aten::_foreach_zero", "aten::_new_zeros_with_same_feature_meta", "aten::fft_fftfreq",
    "aten::fft_rfftfreq",
    "aten::bartlett_window", "aten::blackman_window", "aten::hamming_window", "aten::hann_window",
    "aten::kaiser_window",
)  # fmt: skip
_moves(
    "drawing random numbers is not arithmetic of the model", filled,
    "aten::rand", "aten::rand_like", "aten::randn", "aten::randn_like", "aten::randint", "aten::randint_like",
    "aten::randperm", "aten::normal", "aten::normal_functional", "aten::uniform", "aten::random", "aten::exponential",
    "aten::geometric", "aten::cauchy", "aten::log_normal", "aten::_fill_mem_eff_dropout_mask",
    "aten::_philox_normal", "aten::_philox_uniform", "aten::_philox_key_split", "aten::_philox_key_fold_in",
)  # fmt: skip
_moves(
    "drawing random numbers is not arithmetic of the model; the parameters of the distribution are read", moved,
    "aten::bernoulli", "aten::multinomial", "aten::poisson", "aten::binomial", "aten::_standard_gamma",
    "aten::_sample_dirichlet",
)  # fmt: skip
_moves(
    "how many comparisons ordering takes depends on the values and on the algorithm: only the bytes are counted", moved,
    "aten::sort", "aten::msort", "aten::argsort", "aten::topk", "aten::kthvalue", "aten::median", "aten::nanmedian",
    "aten::mode", "aten::unique_consecutive", "aten::_unique", "aten::_unique2", "aten::unique_dim",
    "aten::unique_dim_consecutive", "aten::nonzero", "aten::nonzero_static", "aten::argwhere",
)  # fmt: skip
