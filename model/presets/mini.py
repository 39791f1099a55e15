"""`mini`: the embedded model. CLUE made small enough for two CPU cores, every part trained by us."""

from model.preset import (
    EdgeSpec,
    HeadSpec,
    LevelSpec,
    NoiseSpec,
    Preset,
    RegionSpec,
    SamSpec,
    TileSpec,
    TransformerSpec,
    VaeSpec,
    ViewSpec,
)

MINI = Preset(
    name="mini",
    # 4×4 pixels folded into channels: convolutions at full resolution cost three times the time of all the rest.
    vae=VaeSpec(
        block_out_channels=(48, 96),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        pixel_unshuffle=4,
        residual=True,
        shift_factor=0.0,
        scaling_factor=1.0,
    ),
    transformer=TransformerSpec(
        num_layers=3,
        num_attention_heads=3,
        attention_head_dim=64,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        sample_size=64,
        pos_embed_max_size=64,
        feature_blocks=(1, 2),
        prompt_tokens=4,
        learned_prompt=True,
    ),
    # No absolute positions and windows only, so that any size of image is welcome; far context is the transformer's.
    sam=SamSpec(
        img_size=64,
        patch_size=1,
        embed_dim=160,
        depth=3,
        num_heads=2,
        window_size=8,
        global_attn_indexes=(),
        out_chans=128,
        use_abs_pos=False,
        input="view",
    ),
    view=ViewSpec(channels=128, matches=True, repeats=True),
    noise=NoiseSpec(levels=(0.01, 0.05)),
    head=HeadSpec(channels=128, groups=8, stride=8),
    tile=TileSpec(size=512, overlap=64),
    # Of 1,344 settings, the best mean F1 on made forgeries of those that mark less on untouched pictures (the log).
    level=LevelSpec(slope=1.0, pivot=0.0, cells=192, lowest=-0.5, least=-4.0),
    # Of six pairs, the best mean F1 over the groups of made forgeries that marks little on untouched pictures.
    regions=RegionSpec(weaker=1.0, certain=8.0),
    # F1 .366 without and .384 with it, on 240 made forgeries, with regions weighed by what is drawn.
    edges=EdgeSpec(radius=8, epsilon=3e-4),
    # F1 on 40 pages with changed words .402 with both, .472 without either, with the weights of run 15.
    screens_as_found=True,
    adapt_sd3="full",
    adapt_sam="full",
)
