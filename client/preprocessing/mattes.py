"""SimpleITK's affine registration by mutual information: the second opinion when ours fails."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own documentation calls it so

from client.preprocessing.image import Affine, Mask, Volume
from client.preprocessing.pyramid import brain_only
from client.preprocessing.template import Template

# ITK's world is LPS, NIfTI's is RAS.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHRINK = (4, 2, 2)
_SMOOTH_MM = (4.0, 2.0, 1.0)
_BINS = 48
_SEED = 20260101


def search_mattes(voxels: Volume, mask: Mask, affine: Affine, template: Template) -> Affine:
    """``(4, 4)`` scanner mm to MNI mm with 12 parameters (Mattes et al. 2003).

    Starts from the centres of mass and the header's orientation. One thread: about a minute.

    Args:
        voxels: ``(I, J, K)`` greys of the scan.
        mask: ``(I, J, K)`` its brain.
        affine: ``(4, 4)`` voxel to scanner mm.
        template: the brain to register to.
    """
    # Its sums depend on the number of threads; the result must not.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    fixed = itk_image(template.brain, template.affine)
    moving = itk_image(brain_only(voxels, mask), affine)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2, seed=_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-4, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel(_SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    columns = [start.TransformVector(tuple(unit), (0.0, 0.0, 0.0)) for unit in np.eye(3)]
    to_scan = np.eye(4)
    to_scan[:3, :3] = np.array(columns).T
    to_scan[:3, 3] = start.TransformPoint((0.0, 0.0, 0.0))
    return np.asarray(np.linalg.inv(_LPS @ to_scan @ _LPS), dtype=np.float64)


def itk_image(voxels: Volume, affine: Affine) -> sitk.Image:
    """An ITK image that lies where the affine says; shear, which ITK has not, is left out."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T, dtype=np.float32))
    matrix = _LPS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image
