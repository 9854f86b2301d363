"""XrayQC: quality control of circuit boards by X-ray: inspections, images, findings and reviews."""
