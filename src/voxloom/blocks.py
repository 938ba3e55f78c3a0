"""Maps a kernel over the voxel blocks of DataArrays, or over parts of other work: the only place that knows Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Kernel = Callable[..., tuple[NDArray[Any], ...]]


def is_lazy(*arrays: xr.DataArray) -> bool:
    """Whether any of the arrays is chunked (its values are not in memory yet)."""
    return any(array.chunks is not None for array in arrays)


def map_voxels(
    kernel: Kernel,
    *arrays: xr.DataArray,
    outputs: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int] | None = None,
    dtypes: Mapping[str, Any] | None = None,
) -> dict[str, xr.DataArray]:
    """Apply `kernel` to every voxel block; equal to one call on all voxels, whatever the chunks.

    Parameters
    ----------
    kernel : callable
        ``kernel(*ndarrays) -> tuple of ndarrays``. Every array, in and out, has the voxel axis LAST, the other
        axes in the order of the DataArray's dims. Column v of the output may depend on column v alone.
    *arrays : DataArray
        Each with a ``voxel`` dim. Lazy ones are re-chunked so that every other dim is whole.
    outputs : mapping of str to sequence of str
        Name and core dims (without ``voxel``) of each output, in the kernel's order.
    sizes : mapping of str to int, optional
        Lengths of core dims that no input has.
    dtypes : mapping of str to dtype, optional
        Output dtypes; float64 when not given.

    Returns
    -------
    dict of str to DataArray
        Dims ``(*core dims, voxel)``; lazy when an input is. Nothing is computed for lazy input.
    """
    core = [[str(dim) for dim in array.dims if dim != "voxel"] for array in arrays]
    whole = [
        array.chunk(dict.fromkeys(dims, -1)) if array.chunks is not None else array for array, dims in zip(arrays, core)
    ]
    results = xr.apply_ufunc(
        _VoxelFirst(kernel, len(outputs)),
        *whole,
        input_core_dims=core,
        output_core_dims=[list(dims) for dims in outputs.values()],
        dask="parallelized",
        join="exact",
        keep_attrs=True,  # also those of coordinates, where the grid lives; the variables' own are dropped below
        output_dtypes=[(dtypes or {}).get(name, np.float64) for name in outputs],
        dask_gufunc_kwargs={"output_sizes": dict(sizes or {})},
    )
    if len(outputs) == 1:
        results = (results,)
    return {
        name: result.transpose(*dims, "voxel").rename(name).drop_attrs(deep=False)
        for (name, dims), result in zip(outputs.items(), results)
    }


class _VoxelFirst:
    """apply_ufunc keeps the loop dim first; kernels want it last. A class, so that it pickles."""

    def __init__(self, kernel: Kernel, n_outputs: int) -> None:
        self.kernel, self.n_outputs = kernel, n_outputs

    def __call__(self, *blocks: NDArray[Any]) -> Any:
        moved = tuple(np.moveaxis(out, -1, 0) for out in self.kernel(*(np.moveaxis(b, 0, -1) for b in blocks)))
        return moved if self.n_outputs > 1 else moved[0]


def map_parts(part: Callable[..., Any], items: Sequence[Any], *shared: Any, client: Any = None) -> list[Any]:
    """Return ``[part(item, *shared) for item in items]``.

    Parameters
    ----------
    part : callable
        With a client it must pickle, as all else.
    items : sequence
        Small: they travel with every call.
    *shared : any
        Sent to every worker once.
    client : distributed.Client, optional
        Whose workers do the calls; here, one after the other, when not given.
    """
    if client is None:
        return [part(item, *shared) for item in items]
    sent = client.scatter(list(shared), broadcast=True, hash=False)
    calls = [client.submit(part, item, *sent, pure=False) for item in items]
    return list(client.gather(calls))


def n_workers(client: Any) -> int:
    """Number of calls that run at once: the threads of the client's workers; 1 for None."""
    return 1 if client is None else max(1, sum(client.nthreads().values()))
