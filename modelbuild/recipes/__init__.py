"""What is built: one function a target, `recipe(inputs, params, out_dir)`; equal inputs, equal bytes."""
