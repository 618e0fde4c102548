"""The devices that come with flopscan, a family a file: `DEVICES` in each is found by being here.

Rates are dense (what NVIDIA prints "with sparsity" is halved), at the highest clock that the vendor names: a bound that
is made of them cannot be beaten by a clock. Of several figures for one rate the largest stands here, for the same
reason. A figure that no source gives is None.
"""
